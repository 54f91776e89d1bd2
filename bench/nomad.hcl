# What bench/nomad.py starts: one task whose executable is the artifact.
variable "source" {
  type = string
}

variable "sha256" {
  type = string
}

job "bench" {
  datacenters = ["*"]
  type        = "batch"

  group "bench" {
    restart {
      attempts = 0
      mode     = "fail"
    }

    ephemeral_disk {
      size = 1000
    }

    task "bench" {
      driver = "exec"

      artifact {
        source      = var.source
        destination = "local/executable"
        mode        = "file"
        options {
          checksum = "sha256:${var.sha256}"
        }
      }

      config {
        command = "./local/executable"
        args    = ["3600"]
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
