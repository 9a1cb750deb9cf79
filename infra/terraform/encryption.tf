# With a key of one's own (`kms_key`), whoever stores anything for us may use it. Google makes these agents when their
# service is first used; infra/README.md says how to have them made before.
locals {
  agents = {
    artifacts = "gcp-sa-artifactregistry.iam.gserviceaccount.com"
    compute   = "compute-system.iam.gserviceaccount.com"
    dataflow  = "dataflow-service-producer-prod.iam.gserviceaccount.com"
    run       = "serverless-robot-prod.iam.gserviceaccount.com"
    secrets   = "gcp-sa-secretmanager.iam.gserviceaccount.com"
    storage   = "gs-project-accounts.iam.gserviceaccount.com"
    training  = "gcp-sa-aiplatform.iam.gserviceaccount.com"
    workflows = "gcp-sa-workflows.iam.gserviceaccount.com"
  }
  key_users = merge(
    { for name, domain in local.agents : name => "service-${data.google_project.this.number}@${domain}" },
    { bigquery = "bq-${data.google_project.this.number}@bigquery-encryption.iam.gserviceaccount.com" },
  )
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = var.kms_key == null ? {} : local.key_users

  crypto_key_id = var.kms_key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value}"

  depends_on = [google_project_service.api]
}
