# The builder as a batch job: each dispatch builds a project in the builder's container and publishes the executable.
#
#     nomad var put -out=none nomad/jobs/builder credentials=@keys    # a file like ~/.aws/credentials
#     nomad job run -var image=registry.internal/waystation-builder:0.1.0 nomad-jobs/builder.nomad.hcl
#     nomad job dispatch -meta source='git::https://git.internal/pet-taxi.git?ref=v0.1.0' builder
#     nomad job dispatch -meta source=… -meta bundler=nix builder
#
# To set: `image` (scripts/builder-image makes it; push it to a registry of yours), `endpoint`, `origin`, and a
# publisher's keys in the Nomad variable. Name and version are the project's own, or its git tag. The source is fetched
# by Nomad's client, which needs git for it; its build sees the publisher's keys, so dispatch what you trust with them.
# `nomad alloc logs ALLOCATION` has the stanza for the job that runs what was built.

variable "image" {
  type        = string
  description = "The builder's image, in a registry that Nomad's clients can reach"
  default     = "registry.internal/waystation-builder:0.1.0"
}

variable "endpoint" {
  type        = string
  description = "Where the bucket is"
  default     = "http://minio.internal:9000"
}

variable "origin" {
  type        = string
  description = "The bucket to publish in, with its prefix where the targets have one"
  default     = "s3://artifacts"
}

variable "region" {
  type    = string
  default = "us-east-1"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

job "builder" {
  datacenters = var.datacenters
  type        = "batch"

  parameterized {
    payload       = "forbidden"
    meta_required = ["source"]
    meta_optional = ["bundler"]
  }

  meta {
    bundler = "auto"
  }

  group "build" {
    # What failed once fails again.
    restart {
      attempts = 0
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    ephemeral_disk {
      size = 4000
    }

    task "builder" {
      driver = "docker"

      artifact {
        source      = "${NOMAD_META_source}"
        destination = "local/source"
      }

      config {
        image = var.image
        args = [
          "run", "${NOMAD_TASK_DIR}/source",
          "--bundler", "${NOMAD_META_bundler}",
          "--output", "${NOMAD_ALLOC_DIR}/data",
        ]

        # What was built is tried in a root like exec's, and Docker's default profiles forbid making one. On clients with
        # Ubuntu 24.04 or later that takes more, or `--no-smoke` among the arguments (docs/builder-image.md).
        security_opt = ["seccomp=unconfined", "apparmor=unconfined"]
      }

      env {
        WAYSTATION_ORIGIN__URL              = var.origin
        WAYSTATION_ORIGIN__ENDPOINT_URL     = var.endpoint
        WAYSTATION_ORIGIN__REGION           = var.region
        WAYSTATION_ORIGIN__CREDENTIALS_FILE = "${NOMAD_SECRETS_DIR}/credentials"
      }

      # A publisher's keys (docs/publishing.md).
      template {
        destination = "${NOMAD_SECRETS_DIR}/credentials"
        perms       = "0444"
        data        = <<-EOF
          {{ with nomadVar "nomad/jobs/builder" }}{{ .credentials }}{{ end }}
        EOF
      }

      resources {
        cpu    = 2000
        memory = 2048
      }
    }
  }
}
