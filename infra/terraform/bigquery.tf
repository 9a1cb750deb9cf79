# What is published, for SQL: `sssl bigquery` loads all tables and swaps them in one transaction, so a query never sees a
# half-made one.
resource "google_bigquery_dataset" "sssl" {
  dataset_id                 = "sssl"
  location                   = var.region
  description                = "The published tables of SSSL (docs/tables.md), as in ${local.output}."
  delete_contents_on_destroy = true # all of it is made again from the output folder

  dynamic "default_encryption_configuration" {
    for_each = var.kms_key[*]
    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

resource "google_bigquery_dataset_iam_member" "command" {
  dataset_id = google_bigquery_dataset.sssl.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = local.member["command"]
}
