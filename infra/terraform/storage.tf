# Tables, models and reports. Their files are written once and never changed; only pointers change, and which generations
# they name is for the program to say. So no rule here deletes or moves a live file below out/: a rule cannot know what is
# published. What was deleted or overwritten is kept as a noncurrent version for some days, in which it can be had back;
# `sssl takedown` deletes those versions, too. Soft deletion is off: nobody can delete what it keeps before its time.
resource "google_storage_bucket" "output" {
  name                        = "${var.project}-sssl"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.keep_deleted_days
    }
    action {
      type = "Delete"
    }
  }

  # A command renews its sign of life every five seconds.
  lifecycle_rule {
    condition {
      days_since_noncurrent_time = 1
      matches_suffix             = [".held"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

# What launches leave behind, and templates. Versioned: a template that was overwritten can be had back.
resource "google_storage_bucket" "work" {
  name                        = "${var.project}-sssl-work"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = true

  versioning {
    enabled = true
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  dynamic "encryption" {
    for_each = var.kms_key[*]
    content {
      default_kms_key_name = encryption.value
    }
  }

  lifecycle_rule {
    condition {
      age            = var.keep_days
      matches_prefix = ["tmp/", "staging/"]
    }
    action {
      type = "Delete"
    }
  }

  lifecycle_rule {
    condition {
      days_since_noncurrent_time = var.keep_days
    }
    action {
      type = "Delete"
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

resource "google_storage_bucket_object" "template" {
  for_each = var.images == null ? toset([]) : toset(local.templates)

  bucket       = google_storage_bucket.work.name
  name         = "templates/${each.value}.json"
  content_type = "application/json"
  content = jsonencode({
    image    = local.image["launcher-${each.value}"]
    sdkInfo  = { language = "PYTHON" }
    metadata = jsondecode(file("${path.module}/../templates/${each.value}.json"))
  })
}

resource "google_artifact_registry_repository" "images" {
  location      = var.region
  repository_id = "sssl"
  format        = "DOCKER"
  description   = "Images of workers, launchers and trainer."
  kms_key_name  = var.kms_key

  docker_config {
    immutable_tags = true
  }

  cleanup_policies {
    id     = "keep-newest"
    action = "KEEP"
    most_recent_versions {
      keep_count = 5
    }
  }

  cleanup_policies {
    id     = "delete-old"
    action = "DELETE"
    condition {
      older_than = "7776000s" # 90 days
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}
