# The daemon itself as a job on every client, for those who can't install a package there. It is one executable:
#
#     waystation-builder run . --bundler pyinstaller --pyinstaller-args=--collect-submodules=waystation.cli
#         # in this checkout; it publishes what it built, and prints the sha256
#     nomad var put -out=none nomad/jobs/waystation credentials=@keys    # a file like ~/.aws/credentials
#     nomad job run -var sha256=… -var endpoint=http://minio.internal:9000 nomad-jobs/waystation.nomad.hcl
#     nomad alloc exec -job waystation ./local/waystation-0.1.0-x86_64 status
#
# To set: `sha256`, `endpoint`, `origin`, and the reader's keys in the Nomad variable. What it can't do, and the package
# (docs/install.md) can:
#
# - Nothing is taken over: jobs name the mirror, http://127.0.0.1:4650/artifacts/…, and find the bucket no more by
#   themselves while it is away. A name with two addresses works (docs/nomad.md).
# - No socket is handed over: while another version takes its place, for seconds, clients are refused, and the restart
#   policies of their jobs try again.
# - A new allocation of it comes from the bucket, with nothing between. A client whose allocation is gone (drained,
#   collected) while the bucket is away has neither; one that is only restarted has both.
# - It starts behind Nomad and beside everybody else: what is placed in the same moment finds no mirror yet.
# - What it has fetched is in its allocation: the next version's takes it over, and with the job it goes.
# - Neither a watchdog nor systemd's sandbox: Nomad's check restarts one that hangs, Nomad's exec isolates it.

variable "sha256" {
  type        = string
  description = "What waystation/waystation-0.1.0-x86_64 must be, as publishing it printed it"
  validation {
    condition     = regex_replace(var.sha256, "^[0-9a-f]{64}$", "") == "" && var.sha256 != ""
    error_message = "A sha256 has 64 digits from 0 to 9 and a to f."
  }
}

variable "endpoint" {
  type        = string
  description = "Where the bucket is"
  default     = "http://minio.internal:9000"
}

variable "origin" {
  type        = string
  description = "The bucket, with its prefix where the targets have one; anybody may read the daemon there"
  default     = "s3://artifacts"
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "port" {
  type        = number
  description = "Where the mirror listens, on 127.0.0.1"
  default     = 4650
}

variable "disk" {
  type        = number
  description = "How much it may store, in MB"
  default     = 20000
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

job "waystation" {
  datacenters = var.datacenters
  type        = "system"
  priority    = 90

  constraint {
    attribute = "${attr.kernel.arch}"
    value     = "x86_64"
  }

  # One client after the other: jobs find a mirror on the others.
  update {
    max_parallel     = 1
    min_healthy_time = "5s"
    healthy_deadline = "5m"
  }

  group "daemon" {
    # What it has stored goes on to the next allocation on the same client.
    ephemeral_disk {
      sticky = true
      size   = var.disk
    }

    network {
      port "mirror" {
        static = var.port
      }
    }

    service {
      name     = "waystation"
      provider = "nomad"
      port     = "mirror"
      address  = "127.0.0.1"

      check {
        type     = "http"
        path     = "/healthz"
        interval = "10s"
        timeout  = "5s"

        check_restart {
          limit = 3
          grace = "60s"
        }
      }
    }

    # For ever: there is no other one.
    restart {
      attempts = 3
      interval = "1m"
      delay    = "5s"
      mode     = "delay"
    }

    task "waystation" {
      driver       = "exec"
      kill_timeout = "25s"

      artifact {
        source = "${var.endpoint}/${trimprefix(var.origin, "s3://")}/waystation/waystation-0.1.0-x86_64"
        options {
          checksum = "sha256:${var.sha256}"
        }
      }

      config {
        command = "./local/waystation-0.1.0-x86_64"
        args    = ["serve"]
      }

      env {
        WAYSTATION_CONFIG = "${NOMAD_TASK_DIR}/waystation.toml"
        PYTHONUNBUFFERED  = "1"
      }

      # A reader's keys (docs/publishing.md). Other keys take another start.
      template {
        destination = "${NOMAD_SECRETS_DIR}/credentials"
        perms       = "0444"
        data        = <<-EOF
          {{ with nomadVar "nomad/jobs/waystation" }}{{ .credentials }}{{ end }}
        EOF
      }

      # docs/configuration.md has every key.
      template {
        destination = "${NOMAD_TASK_DIR}/waystation.toml"
        data        = <<-EOF
          [origin]
          url = "${var.origin}"
          endpoint_url = "${var.endpoint}"
          region = "${var.region}"
          credentials_file = "{{ env "NOMAD_SECRETS_DIR" }}/credentials"

          [mirror]
          listen = ["http://127.0.0.1:${var.port}"]
          drain_timeout = "20s"

          [store]
          path = "{{ env "NOMAD_ALLOC_DIR" }}/data/store"
          max_size = "${floor(var.disk * 0.9)}MB"
          min_free = "1GiB"

          [admin]
          socket = "{{ env "NOMAD_ALLOC_DIR" }}/admin.sock"
        EOF
      }

      resources {
        cpu    = 500
        memory = 512
      }
    }
  }
}
