locals {
  services = toset([
    "aiplatform", "artifactregistry", "bigquery", "billingbudgets", "cloudbuild", "cloudscheduler", "compute", "dataflow",
    "iam", "logging", "monitoring", "run", "secretmanager", "storage", "workflowexecutions", "workflows",
  ])
  output    = "gs://${google_storage_bucket.output.name}/out"
  registry  = "${var.region}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
  image     = { for role in ["cpu-worker", "gpu-worker", "launcher"] : role => "${local.registry}/${role}:${coalesce(var.images, "none")}" }
  deployed  = var.images == null ? 0 : 1 # what runs images can be made only once there are some
  templates = toset(["segment", "relabel", "score", "songs"])
}

data "google_project" "this" {}

resource "google_project_service" "api" {
  for_each = local.services

  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}
