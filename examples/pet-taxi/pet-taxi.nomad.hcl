# Runs the bundled example. Fill in the sha256 that `waystation publish` printed:
#
#   nomad job run -var sha256=… examples/pet-taxi/pet-taxi.nomad.hcl

variable "sha256" {
  type        = string
  description = "The digest of app/app-0.1.0-x86_64"
}

job "pet-taxi" {
  type = "service"

  group "web" {
    network {
      port "http" {}
    }

    service {
      name     = "pet-taxi"
      provider = "nomad"
      port     = "http"
    }

    task "app" {
      driver = "exec"

      artifact {
        source = "http://127.0.0.1:4650/artifacts/app/app-0.1.0-${attr.kernel.arch}"
        options {
          checksum = "sha256:${var.sha256}"
        }
      }

      config {
        command = "local/app-0.1.0-${attr.kernel.arch}"
      }

      resources {
        cpu    = 200
        memory = 128
      }
    }
  }
}
