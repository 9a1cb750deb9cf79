variable "project" {
  description = "Project that everything is made in."
  type        = string
}

variable "region" {
  description = "Region of buckets, workers and training; it needs GPUs of the wanted kind."
  type        = string
  default     = "europe-west4"
}

variable "images" {
  description = "Tag of the images that Cloud Build made (infra/docker/cloudbuild.yaml); null until there are any."
  type        = string
  default     = null
}

variable "catalog" {
  description = "Catalog, as `sssl run --catalog` takes it: CSV, Parquet, or a folder of audio in the bucket."
  type        = string
}

variable "audio_bucket" {
  description = "Bucket with the audio, which workers may read; null if it is the output bucket or no bucket."
  type        = string
  default     = null
}

variable "flags" {
  description = "Flags of stages beside catalog, output and round, by stage: { segment = { tracks_per_part = \"32\" } }."
  type        = map(map(string))
  default     = {}

  validation {
    condition     = alltrue([for stage in keys(var.flags) : contains(["segment", "relabel", "train", "score", "judge", "songs"], stage)])
    error_message = "Flags can be set for segment, relabel, train, score, judge and songs."
  }
}

variable "max_churn" {
  description = "Largest share of the published song labels that a night may change without a person's consent: 0.2. Null: whatever changes is published."
  type        = number
  default     = null

  validation {
    condition     = var.max_churn == null ? true : var.max_churn >= 0 && var.max_churn <= 1
    error_message = "A share from 0 to 1."
  }
}

variable "rounds" {
  description = "Rounds of self-learning after the warm-up."
  type        = number
  default     = 1
}

variable "schedule" {
  description = "When to start, in cron's words."
  type        = string
  default     = "0 1 * * *"
}

variable "time_zone" {
  description = "Time zone of the schedule."
  type        = string
  default     = "Etc/UTC"
}

variable "paused" {
  description = "Keep the schedule from starting anything."
  type        = bool
  default     = false
}

variable "max_workers" {
  description = "Most workers of a Dataflow job: the limit of what an hour can cost."
  type        = number
  default     = 50
}

variable "max_gpu_workers" {
  description = "Most workers of the scoring job; each has a GPU. The region's quota has to allow it."
  type        = number
  default     = 8
}

variable "worker_machine" {
  description = "Machine of a worker, except for scoring on a GPU."
  type        = string
  default     = "n2-standard-4"
}

variable "gpu" {
  description = "GPU for scoring and training: its type for Dataflow, its name for Vertex AI, and a machine that can have it. Null: both on CPUs."
  type = object({
    dataflow = string
    vertex   = string
    machine  = string
  })
  default = {
    dataflow = "nvidia-l4"
    vertex   = "NVIDIA_L4"
    machine  = "g2-standard-8"
  }

  validation {
    condition     = var.gpu == null ? true : can(regex("^[a-z0-9-]+$", var.gpu.dataflow))
    error_message = "The GPU's type alone, such as nvidia-l4: count, machine and driver are added to it."
  }
}

variable "worker_disk_gb" {
  description = "Disk of a Dataflow worker, in GB: the image, unpacked, and the tracks that are being decoded."
  type        = number
  default     = 50
}

variable "gpu_worker_disk_gb" {
  description = "Disk of a worker of the scoring job, in GB: its image has CUDA inside."
  type        = number
  default     = 100
}

variable "train_limit_s" {
  description = "Longest time that a training may take, in seconds."
  type        = number
  default     = 86400
}

variable "job_limit_s" {
  description = "Longest time that a Dataflow job may take, in seconds; then Dataflow cancels it."
  type        = number
  default     = 86400
}

variable "keep_deleted_days" {
  description = "Days for which deleted and overwritten files of the output can be had back; a takedown ends that for what it removes."
  type        = number
  default     = 30
}

variable "kms_key" {
  description = "Key of your own that everything stored is encrypted with: projects/P/locations/REGION/keyRings/R/cryptoKeys/K, in the same region. Null: Google's keys."
  type        = string
  default     = null

  validation {
    condition     = var.kms_key == null ? true : can(regex("^projects/[^/]+/locations/[^/]+/keyRings/[^/]+/cryptoKeys/[^/]+$", var.kms_key))
    error_message = "The key by its full name: projects/P/locations/REGION/keyRings/R/cryptoKeys/K, without a version."
  }
}

variable "subnetwork" {
  description = "Subnetwork of a shared VPC that workers run in: projects/HOST/regions/REGION/subnetworks/NAME. Null: a network of their own."
  type        = string
  default     = null

  validation {
    condition     = var.subnetwork == null ? true : can(regex("^projects/[^/]+/regions/[^/]+/subnetworks/[^/]+$", var.subnetwork))
    error_message = "The subnetwork by its full name: projects/HOST/regions/REGION/subnetworks/NAME."
  }
}

variable "keep_days" {
  description = "Days after which files of launches and temporary files are deleted."
  type        = number
  default     = 14
}

variable "billing_account" {
  description = "Billing account of the budget; null: no budget."
  type        = string
  default     = null
}

variable "monthly_budget" {
  description = "What a month may cost before people are told, in units of `currency`."
  type        = number
  default     = 500
}

variable "currency" {
  description = "Currency of the billing account."
  type        = string
  default     = "EUR"
}

variable "alert_email" {
  description = "Who is told of failures, stuck jobs and cost."
  type        = string
}

variable "stuck_after_s" {
  description = "Age of a Dataflow job, in seconds, from which it counts as stuck."
  type        = number
  default     = 43200
}
