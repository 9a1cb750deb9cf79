# Tables, models and reports. Their files are written once and never changed; only pointers change, and which generations
# they name is for the program to say. So no rule here deletes or moves anything below out/: a rule cannot know what is
# published. Versioning would keep what a takedown has to remove for good, so it is off, and so is soft deletion.
resource "google_storage_bucket" "output" {
  name                        = "${var.project}-sssl"
  location                    = var.region
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = false

  versioning {
    enabled = false
  }

  soft_delete_policy {
    retention_duration_seconds = 0
  }

  lifecycle_rule {
    condition {
      age = 7
    }
    action {
      type = "AbortIncompleteMultipartUpload"
    }
  }

  depends_on = [google_project_service.api]
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

  depends_on = [google_project_service.api]
}

resource "google_storage_bucket_object" "template" {
  for_each = var.images == null ? toset([]) : local.templates

  bucket       = google_storage_bucket.work.name
  name         = "templates/${each.value}.json"
  content_type = "application/json"
  content = jsonencode({
    image    = "${local.registry}/launcher-${each.value}:${var.images}"
    sdkInfo  = { language = "PYTHON" }
    metadata = jsondecode(file("${path.module}/../templates/${each.value}.json"))
  })
}

resource "google_artifact_registry_repository" "images" {
  location      = var.region
  repository_id = "sssl"
  format        = "DOCKER"
  description   = "Images of workers, launchers and trainer."

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

  depends_on = [google_project_service.api]
}
