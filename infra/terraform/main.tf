locals {
  services = toset([
    "aiplatform", "artifactregistry", "bigquery", "billingbudgets", "cloudbuild", "cloudscheduler", "compute", "dataflow",
    "iam", "logging", "monitoring", "run", "secretmanager", "storage", "workflowexecutions", "workflows",
  ])
  output    = "gs://${google_storage_bucket.output.name}/out"
  registry  = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
  roles     = concat(["cpu-worker", "gpu-worker", "launcher"], [for stage in local.templates : "launcher-${stage}"])
  image     = { for role, found in data.google_artifact_registry_docker_image.tagged : role => found.self_link }
  deployed  = var.images == null ? 0 : 1 # what runs images can be made only once there are some
  templates = ["segment", "relabel", "score", "songs"]
}

data "google_project" "this" {}

# What runs is named by its digest: a tag that somebody moves changes nothing that was applied.
data "google_artifact_registry_docker_image" "tagged" {
  for_each = var.images == null ? toset([]) : toset(local.roles)

  location      = google_artifact_registry_repository.images.location
  repository_id = google_artifact_registry_repository.images.repository_id
  image_name    = "${each.value}:${var.images}"
}

resource "google_project_service" "api" {
  for_each = local.services

  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}
