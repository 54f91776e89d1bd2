module waystation.example/hello-go

go 1.19
