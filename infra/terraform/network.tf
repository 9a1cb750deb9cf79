# Workers have no public addresses: they reach Google's services through Private Google Access, and nothing else. A
# catalog with https:// URLs would need a NAT gateway here. With a subnetwork of a shared VPC (`subnetwork`) nothing of this
# is made: its firewall and Private Google Access are for whoever owns it.
locals {
  shared     = var.subnetwork == null ? null : regex("^projects/(?P<host>[^/]+)/regions/(?P<region>[^/]+)/subnetworks/(?P<name>[^/]+)$", var.subnetwork)
  subnetwork = var.subnetwork == null ? google_compute_subnetwork.workers[0].self_link : "https://www.googleapis.com/compute/v1/${var.subnetwork}"
  own        = var.subnetwork == null ? 1 : 0
}

resource "google_compute_network" "this" {
  count = local.own

  name                    = "sssl"
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork" "workers" {
  count = local.own

  name                     = "sssl-workers"
  region                   = var.region
  network                  = google_compute_network.this[0].id
  ip_cidr_range            = "10.10.0.0/20"
  private_ip_google_access = true

  log_config {
    aggregation_interval = "INTERVAL_15_MIN"
    flow_sampling        = 0.1
    metadata             = "EXCLUDE_ALL_METADATA"
  }
}

# Workers of a job talk to each other on these ports, which shuffling outside Dataflow's service needs.
resource "google_compute_firewall" "between_workers" {
  count = local.own

  name        = "sssl-between-workers"
  network     = google_compute_network.this[0].id
  direction   = "INGRESS"
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}

# Who puts machines into a shared subnetwork: Dataflow and Cloud Run by their agents, and workers as themselves.
resource "google_compute_subnetwork_iam_member" "shared" {
  for_each = var.subnetwork == null ? {} : merge(local.member_in_network, {
    dataflow = "serviceAccount:service-${data.google_project.this.number}@dataflow-service-producer-prod.iam.gserviceaccount.com"
    run      = "serviceAccount:service-${data.google_project.this.number}@serverless-robot-prod.iam.gserviceaccount.com"
  })

  project    = local.shared.host
  region     = local.shared.region
  subnetwork = local.shared.name
  role       = "roles/compute.networkUser"
  member     = each.value
}

locals {
  member_in_network = { for role in ["launcher", "worker"] : role => local.member[role] }
}
