terraform {
  required_version = ">= 1.9"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = "~> 7.0"
    }
  }

  # The bucket is given with `init -backend-config=bucket=...`: it exists before everything else (infra/README.md).
  backend "gcs" {
    prefix = "sssl"
  }
}

provider "google" {
  project               = var.project
  region                = var.region
  billing_project       = var.project
  user_project_override = true # budgets ask for it
}
