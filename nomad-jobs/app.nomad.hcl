# Pet Taxi, the example app (examples/pet-taxi): one executable from the bucket, run by the exec driver.
#
#     waystation publish ./app-0.1.0-x86_64 --app app --version 0.1.0     # prints the sha256
#     nomad job run -var bucket=http://minio.internal:9000/artifacts -var sha256=9f2c… nomad-jobs/app.nomad.hcl
#
# To set: `bucket` and `sha256`. docs/nomad.md says what else a job can do, and where to look when a download fails.

variable "bucket" {
  type        = string
  description = "The bucket's own URL, with its prefix where the targets have one; anybody may read there"
  default     = "http://minio.internal:9000/artifacts"
}

variable "sha256" {
  type        = string
  description = "What app/app-0.1.0-x86_64 must be, as `waystation publish` printed it"
  validation {
    condition     = regex_replace(var.sha256, "^[0-9a-f]{64}$", "") == "" && var.sha256 != ""
    error_message = "A sha256 has 64 digits from 0 to 9 and a to f; `waystation stanza app/app-0.1.0-x86_64` prints it."
  }
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "count" {
  type    = number
  default = 1
}

job "pet-taxi" {
  datacenters = var.datacenters
  type        = "service"

  constraint {
    attribute = "${attr.kernel.arch}"
    value     = "x86_64"
  }

  group "web" {
    count = var.count

    # Nobody is sent to it any more by the time it ends.
    shutdown_delay = "2s"

    network {
      port "http" {}
    }

    service {
      name     = "pet-taxi"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/healthz"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "app" {
      driver = "exec"

      # The bucket's own URL. Where `waystation takeover` stands, the mirror on this machine answers it, and the bucket
      # does wherever there is no mirror, or none that lives: nothing in a job has to change for either.
      artifact {
        source = "${var.bucket}/app/app-0.1.0-x86_64"
        options {
          checksum = "sha256:${var.sha256}"
        }
      }

      # The other two ways, where nothing is taken over (docs/nomad.md):
      #
      #     source = "http://artifacts.internal:4650/artifacts/app/app-0.1.0-x86_64"
      #         a name with two addresses in your DNS, 127.0.0.1 and a fallback: the mirror, and without it the other one
      #     source = "http://127.0.0.1:4650/artifacts/app/app-0.1.0-x86_64"
      #         the mirror alone: without it the download fails, and the restart policy tries again

      config {
        command = "./local/app-0.1.0-x86_64"
      }

      env {
        HOST             = "${NOMAD_IP_http}"
        PYTHONUNBUFFERED = "1"
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
