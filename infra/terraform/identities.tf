# One account per role, and for each only what its calls need.
resource "google_service_account" "role" {
  for_each = {
    launcher  = "Dataflow's launchers, which build jobs"
    worker    = "Dataflow's workers, which decode what others have sent"
    command   = "Commands on Cloud Run: judge, publish, report, BigQuery"
    trainer   = "Training on Vertex AI"
    workflow  = "The workflow that starts all of them"
    scheduler = "The schedule, which may start the workflow"
    builder   = "Cloud Build, which makes the images"
  }

  account_id   = "sssl-${each.key}"
  display_name = each.value
}

locals {
  member = { for role, account in google_service_account.role : role => "serviceAccount:${account.email}" }

  project_roles = {
    launcher = ["roles/dataflow.worker"]
    worker   = ["roles/dataflow.worker"]
    command  = ["roles/bigquery.jobUser"]
    trainer  = ["roles/logging.logWriter"]
    workflow = [
      "roles/aiplatform.user", "roles/dataflow.developer", "roles/logging.logWriter", "roles/run.viewer", "roles/workflows.viewer",
    ]
    scheduler = ["roles/workflows.invoker"]
    builder   = ["roles/logging.logWriter"]
  }

  # A launcher runs as its own account and builds a job whose workers run as theirs.
  acts_as = {
    workflow_launcher = { who = "workflow", whom = "launcher" }
    workflow_worker   = { who = "workflow", whom = "worker" }
    workflow_trainer  = { who = "workflow", whom = "trainer" }
    launcher_worker   = { who = "launcher", whom = "worker" }
  }

  bucket_roles = {
    worker_output   = { who = "worker", bucket = google_storage_bucket.output.name, role = "roles/storage.objectViewer" }
    launcher_output = { who = "launcher", bucket = google_storage_bucket.output.name, role = "roles/storage.objectUser" }
    command_output  = { who = "command", bucket = google_storage_bucket.output.name, role = "roles/storage.objectUser" }
    trainer_output  = { who = "trainer", bucket = google_storage_bucket.output.name, role = "roles/storage.objectUser" }
    workflow_output = { who = "workflow", bucket = google_storage_bucket.output.name, role = "roles/storage.objectViewer" }
    worker_work     = { who = "worker", bucket = google_storage_bucket.work.name, role = "roles/storage.objectUser" }
    launcher_work   = { who = "launcher", bucket = google_storage_bucket.work.name, role = "roles/storage.objectUser" }
    command_work    = { who = "command", bucket = google_storage_bucket.work.name, role = "roles/storage.objectUser" }
    workflow_work   = { who = "workflow", bucket = google_storage_bucket.work.name, role = "roles/storage.objectViewer" }
    builder_work    = { who = "builder", bucket = google_storage_bucket.work.name, role = "roles/storage.objectUser" }
  }

  audio_roles = var.audio_bucket == null ? toset([]) : toset(["launcher", "worker", "command"])

  # What says which tables are published, which tracks were taken down, which job is in flight, and what listeners said.
  not_for_workers = ["latest", "takedown.json", "in_flight.json", "corrections.csv"]
}

# Workers write parts, receipts and tables. A worker that a broken file has taken over can neither hide what is published
# nor publish anything.
resource "google_storage_bucket_iam_member" "worker_writes" {
  bucket = google_storage_bucket.output.name
  role   = "roles/storage.objectUser"
  member = local.member["worker"]

  condition {
    title      = "no pointers"
    expression = join(" && ", [for name in local.not_for_workers : "!resource.name.startsWith(\"projects/_/buckets/${google_storage_bucket.output.name}/objects/out/${name}\")"])
  }
}

resource "google_project_iam_member" "role" {
  for_each = merge([
    for who, roles in local.project_roles : { for role in roles : "${who} ${role}" => { who = who, role = role } }
  ]...)

  project = var.project
  role    = each.value.role
  member  = local.member[each.value.who]
}

resource "google_service_account_iam_member" "acts_as" {
  for_each = local.acts_as

  service_account_id = google_service_account.role[each.value.whom].name
  role               = "roles/iam.serviceAccountUser"
  member             = local.member[each.value.who]
}

resource "google_storage_bucket_iam_member" "role" {
  for_each = local.bucket_roles

  bucket = each.value.bucket
  role   = each.value.role
  member = local.member[each.value.who]
}

# Fingerprints are looked up where the catalog is read: in launchers and commands.
resource "google_storage_bucket_iam_member" "audio" {
  for_each = local.audio_roles

  bucket = var.audio_bucket
  role   = "roles/storage.objectViewer"
  member = local.member[each.value]
}

resource "google_artifact_registry_repository_iam_member" "reader" {
  for_each = toset(["launcher", "worker", "command", "trainer"])

  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.reader"
  member     = local.member[each.value]
}

resource "google_artifact_registry_repository_iam_member" "writer" {
  location   = google_artifact_registry_repository.images.location
  repository = google_artifact_registry_repository.images.name
  role       = "roles/artifactregistry.writer"
  member     = local.member["builder"]
}

# The secret is made here, its value is not: what Terraform writes ends in its state. infra/README.md says how to set it.
resource "google_secret_manager_secret" "mlflow_uri" {
  secret_id = "sssl-mlflow-uri"

  replication {
    user_managed {
      replicas {
        location = var.region

        dynamic "customer_managed_encryption" {
          for_each = var.kms_key[*]
          content {
            kms_key_name = customer_managed_encryption.value
          }
        }
      }
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

resource "google_secret_manager_secret_iam_member" "mlflow_uri" {
  secret_id = google_secret_manager_secret.mlflow_uri.id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.member["trainer"]
}
