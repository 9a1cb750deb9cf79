# Workers have no public addresses: they reach Google's services through Private Google Access, and nothing else. A
# catalog with https:// URLs would need a NAT gateway here.
resource "google_compute_network" "this" {
  name                    = "sssl"
  auto_create_subnetworks = false

  depends_on = [google_project_service.api]
}

resource "google_compute_subnetwork" "workers" {
  name                     = "sssl-workers"
  region                   = var.region
  network                  = google_compute_network.this.id
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
  name        = "sssl-between-workers"
  network     = google_compute_network.this.id
  direction   = "INGRESS"
  source_tags = ["dataflow"]
  target_tags = ["dataflow"]

  allow {
    protocol = "tcp"
    ports    = ["12345-12346"]
  }
}
