// hello-go prints a line and the machine it runs on; it stands for any program that its own toolchain makes static.
package main

import (
	_ "embed"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// The one place that says the version; the builder is told it from the same file.
//
//go:embed VERSION
var version string

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--version" {
		fmt.Println("hello-go", strings.TrimSpace(version))
		return
	}
	if len(os.Args) > 1 {
		fmt.Fprintln(os.Stderr, "usage: hello-go [--version]")
		os.Exit(2)
	}
	fmt.Printf("Hello from one static executable, on %s/%s\n", runtime.GOOS, runtime.GOARCH)
}
