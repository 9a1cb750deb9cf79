output "output" {
  description = "Output folder, for `sssl sql --output`."
  value       = local.output
}

output "registry" {
  description = "Where images go: the substitution _REGISTRY of infra/docker/cloudbuild.yaml."
  value       = local.registry
}

output "builder" {
  description = "Account that Cloud Build runs under."
  value       = google_service_account.role["builder"].id
}

output "work_bucket" {
  description = "Bucket for sources of builds, templates and what launches leave behind."
  value       = google_storage_bucket.work.name
}
