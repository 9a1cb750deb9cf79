# What is published, for SQL. The workflow points an external table a table at the generations that are published, so a
# query never sees a half-made one; the files stay where they are.
resource "google_bigquery_dataset" "sssl" {
  dataset_id                 = "sssl"
  location                   = var.region
  description                = "The published tables of SSSL (docs/tables.md), over the Parquet files in ${local.output}."
  delete_contents_on_destroy = true # external tables hold no data

  depends_on = [google_project_service.api]
}

resource "google_bigquery_dataset_iam_member" "workflow" {
  dataset_id = google_bigquery_dataset.sssl.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = local.member["workflow"]
}
