# Commands that are no pipelines, and publishing. Which stage and with what flags, the workflow says each time.
resource "google_cloud_run_v2_job" "command" {
  count = local.deployed

  name                = "sssl-command"
  location            = var.region
  deletion_protection = false

  template {
    template {
      service_account = google_service_account.role["command"].email
      encryption_key  = var.kms_key
      timeout         = "86400s"
      max_retries     = 1

      containers {
        image   = local.image["launcher"]
        command = ["as-user", "sssl-launch"]

        resources {
          limits = { cpu = "4", memory = "16Gi" }
        }
      }

      vpc_access {
        egress = "ALL_TRAFFIC"
        network_interfaces {
          subnetwork = local.subnetwork
        }
      }
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

resource "google_cloud_run_v2_job_iam_member" "workflow" {
  count = local.deployed

  name     = google_cloud_run_v2_job.command[0].name
  location = var.region
  role     = "roles/run.jobsExecutorWithOverrides"
  member   = local.member["workflow"]
}

locals {
  # Options of the pipeline itself: Flex Templates' environment has no field for some. The disk size is given in both
  # places, as nobody has tried here which of them workers go by.
  pipeline_options = [
    "sdk_location=container",
    "dataflow_service_options=max_workflow_runtime_walltime_seconds=${var.job_limit_s}",
    # Not Dataflow's: `sssl-launch` builds a job whose workers run as this account, while it runs as the launchers'.
    "worker_account=${google_service_account.role["worker"].email}",
  ]

  environment = merge({ for key in var.kms_key[*] : "kmsKeyName" => key }, {
    serviceAccountEmail  = google_service_account.role["launcher"].email
    subnetwork           = local.subnetwork
    ipConfiguration      = "WORKER_IP_PRIVATE"
    tempLocation         = "gs://${google_storage_bucket.work.name}/tmp"
    stagingLocation      = "gs://${google_storage_bucket.work.name}/staging"
    sdkContainerImage    = lookup(local.image, "cpu-worker", null)
    machineType          = var.worker_machine
    maxWorkers           = var.max_workers
    diskSizeGb           = var.worker_disk_gb
    launcherMachineType  = "n2-standard-4"
    additionalUserLabels = { app = "sssl" }
    # A process per vCPU does one part at a time. Beam's default of 12 threads each would start 12 decoders per vCPU.
    additionalPipelineOptions = concat(local.pipeline_options, [
      "disk_size_gb=${var.worker_disk_gb}", "number_of_worker_harness_threads=1",
    ])
  })
  gpu_environment = merge({}, [for gpu in var.gpu[*] : {
    sdkContainerImage = lookup(local.image, "gpu-worker", null)
    maxWorkers        = var.max_gpu_workers
    diskSizeGb        = var.gpu_worker_disk_gb
    # One process has the GPU; its threads feed it.
    additionalExperiments = ["no_use_multiple_sdk_containers"]
    # While one thread scores its parts, the other one fetches the next.
    additionalPipelineOptions = concat(local.pipeline_options, [
      "disk_size_gb=${var.gpu_worker_disk_gb}", "number_of_worker_harness_threads=2",
    ])
  }]...)
  # Its machine is named in the hint: all other steps of the job run on the job's own kind, without a GPU.
  accelerator = [
    for gpu in var.gpu[*] :
    "type:${gpu.dataflow};count:1;machine_type:${gpu.machine};install-nvidia-driver:5xx"
  ]

  # What the workflow goes by. The argument of an execution can override any of it.
  settings = {
    project   = var.project
    region    = var.region
    bucket    = google_storage_bucket.output.name
    folder    = "out"
    output    = local.output
    templates = "gs://${google_storage_bucket.work.name}/templates"
    rounds    = var.rounds
    again     = false
    dataset   = "${var.project}.${google_bigquery_dataset.sssl.dataset_id}"

    workflow        = "projects/${var.project}/locations/${var.region}/workflows/sssl-nightly"
    environment     = local.environment
    gpu_environment = local.gpu_environment
    command_job     = "projects/${var.project}/locations/${var.region}/jobs/sssl-command"
    trainer_image   = lookup(local.image, "launcher", null)
    trainer_account = google_service_account.role["trainer"].email
    trainer_machine = merge(
      { machineType = "n2-standard-16" },
      [for gpu in var.gpu[*] : { machineType = gpu.machine, acceleratorType = gpu.vertex, acceleratorCount = 1 }]...
    )
    train_limit = "${var.train_limit_s}s"
    trainer_job = merge({}, [for key in var.kms_key[*] : { encryptionSpec = { kmsKeyName = key } }]...)
    mlflow_uri  = "sm://${google_secret_manager_secret.mlflow_uri.id}/versions/latest"

    segment = merge({ catalog = var.catalog, output = local.output }, lookup(var.flags, "segment", {}))
    relabel = merge({ output = local.output }, lookup(var.flags, "relabel", {}))
    # In as many processes as the command has vCPUs. It goes by the same settings as training.
    shards = merge(
      { output = local.output, direct_running_mode = "multi_processing", direct_num_workers = "4" },
      { for name, value in lookup(var.flags, "train", {}) : name => value if contains(["preset", "settings"], name) },
    )
    train = merge(concat(
      [{ output = local.output }],
      [for gpu in var.gpu[*] : { accelerator = "gpu" }],
      [lookup(var.flags, "train", {})],
    )...)
    score = merge(concat(
      [{ output = local.output }],
      [for hint in local.accelerator : { accelerator = hint }],
      [lookup(var.flags, "score", {})],
    )...)
    judge = merge({ output = local.output }, lookup(var.flags, "judge", {}))
    songs = merge(concat(
      [{ output = local.output }],
      [for share in var.max_churn[*] : { max_churn = tostring(share) }],
      [lookup(var.flags, "songs", {})],
    )...)
  }
}

resource "google_workflows_workflow" "nightly" {
  count = local.deployed

  name                    = "sssl-nightly"
  region                  = var.region
  description             = "Labels the catalog."
  service_account         = google_service_account.role["workflow"].id
  crypto_key_name         = var.kms_key
  source_contents         = file("${path.module}/../workflows/nightly.yaml")
  user_env_vars           = { SETTINGS = jsonencode(local.settings) }
  call_log_level          = "LOG_ERRORS_ONLY"
  execution_history_level = "EXECUTION_HISTORY_BASIC"
  deletion_protection     = false

  lifecycle {
    precondition {
      condition     = length(jsonencode(local.settings)) < 4096
      error_message = "The settings do not fit into an environment variable of a workflow: give fewer flags."
    }
  }

  depends_on = [google_project_service.api, google_kms_crypto_key_iam_member.agent]
}

resource "google_cloud_scheduler_job" "nightly" {
  count = local.deployed

  name      = "sssl-nightly"
  region    = var.region
  schedule  = var.schedule
  time_zone = var.time_zone
  paused    = var.paused

  # An execution that is started twice finds that it is not alone, and ends.
  retry_config {
    retry_count          = 3
    min_backoff_duration = "60s"
    max_backoff_duration = "600s"
  }

  http_target {
    http_method = "POST"
    uri         = "https://workflowexecutions.googleapis.com/v1/${google_workflows_workflow.nightly[0].id}/executions"
    headers     = { "Content-Type" = "application/json" }
    body        = base64encode(jsonencode({ argument = "{}" }))

    oauth_token {
      service_account_email = google_service_account.role["scheduler"].email
    }
  }
}
