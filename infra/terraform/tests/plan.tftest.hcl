# The whole configuration, planned against the provider's schema and no cloud: `tofu test`.
mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      name  = "projects/project-1/serviceAccounts/sssl-role@project-1.iam.gserviceaccount.com"
      email = "sssl-role@project-1.iam.gserviceaccount.com"
    }
  }

  mock_data "google_artifact_registry_docker_image" {
    defaults = {
      self_link = "europe-west4-docker.pkg.dev/project-1/sssl/image@sha256:0123"
    }
  }

  mock_data "google_project" {
    defaults = {
      number = 42
    }
  }
}

variables {
  project         = "project-1"
  catalog         = "gs://bucket/catalog.csv"
  alert_email     = "operators@example.org"
  billing_account = "000000-000000-000000"
}

run "before_there_are_images" {
  command = plan

  assert {
    condition     = length(google_workflows_workflow.nightly) + length(google_cloud_run_v2_job.command) + length(google_cloud_scheduler_job.nightly) == 0
    error_message = "Nothing that needs an image can be made before there is one."
  }
}

run "with_images" {
  command = apply

  variables {
    images = "abc1234"
    flags  = { segment = { max_error_ratio = "0.2" }, train = { settings = "gs://bucket/method.toml", processes = "4" } }
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).shards == { output = "gs://project-1-sssl/out", direct_running_mode = "multi_processing", direct_num_workers = "4", settings = "gs://bucket/method.toml" }
    error_message = "Shards are made by the settings of training."
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).segment == { catalog = "gs://bucket/catalog.csv", output = "gs://project-1-sssl/out", max_error_ratio = "0.2" }
    error_message = "Flags of a stage reach the workflow."
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).score.accelerator == "type:nvidia-l4;count:1;machine_type:g2-standard-8;install-nvidia-driver:5xx"
    error_message = "Scoring asks for the GPU, and for a machine that has one."
  }

  assert {
    condition     = !can(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).gpu_environment.machineType)
    error_message = "Steps that list and write run on the job's machines, without a GPU."
  }

  assert {
    condition     = contains(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).gpu_environment.additionalPipelineOptions, "disk_size_gb=100")
    error_message = "The disk is an option of the pipeline, too."
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).train.accelerator == "gpu"
    error_message = "Training refuses to run without the GPU."
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.ipConfiguration == "WORKER_IP_PRIVATE"
    error_message = "Workers have no public addresses."
  }

  assert {
    condition     = data.google_artifact_registry_docker_image.tagged["launcher-score"].image_name == "launcher-score:abc1234"
    error_message = "A template starts the launcher of its stage."
  }

  assert {
    condition = alltrue([
      for image in [
        jsondecode(google_storage_bucket_object.template["score"].content).image,
        google_cloud_run_v2_job.command[0].template[0].template[0].containers[0].image,
        jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.sdkContainerImage,
        jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).gpu_environment.sdkContainerImage,
        jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).trainer_image,
      ] : endswith(image, "@sha256:0123")
    ])
    error_message = "What runs is named by its digest."
  }

  assert {
    condition     = contains(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.additionalPipelineOptions, "worker_account=${google_service_account.role["worker"].email}")
    error_message = "Workers run as an account of their own."
  }

  assert {
    condition     = google_storage_bucket_iam_member.role["worker_output"].role == "roles/storage.objectViewer" && google_storage_bucket_iam_member.worker_writes.condition[0].expression == join(" && ", [for name in ["latest", "takedown.json", "in_flight.json", "corrections.csv"] : "!resource.name.startsWith(\"projects/_/buckets/project-1-sssl/objects/out/${name}\")"])
    error_message = "Workers may not delete, or write, what says what is published."
  }

  assert {
    condition     = google_storage_bucket.output.versioning[0].enabled && google_storage_bucket.output.soft_delete_policy[0].retention_duration_seconds == 0
    error_message = "What was deleted can be had back, unless a takedown deletes it for good: soft deletion would not let it."
  }

  assert {
    condition     = length(google_kms_crypto_key_iam_member.agent) + length(google_storage_bucket.output.encryption) == 0 && !can(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.kmsKeyName)
    error_message = "Without a key of one's own Google's are used."
  }

  assert {
    condition     = alltrue([for binding in google_project_iam_member.role : !contains(["roles/owner", "roles/editor", "roles/viewer", "roles/storage.admin", "roles/storage.objectAdmin"], binding.role)])
    error_message = "No account has a basic role, or all buckets."
  }

  assert {
    condition     = length(distinct([for account in google_service_account.role : account.account_id])) == 7
    error_message = "Each role has an account of its own."
  }
}

run "what_is_watched" {
  command = apply

  variables {
    images = "abc1234"
  }

  assert {
    condition     = local.planned_vcpus == 200
    error_message = "The plan is 50 workers of 4 vCPUs."
  }

  assert {
    condition     = google_cloud_scheduler_job.nightly[0].retry_config[0].retry_count == 3
    error_message = "A night is not lost because one call was."
  }

  assert {
    condition     = contains(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.additionalPipelineOptions, "dataflow_service_options=max_workflow_runtime_walltime_seconds=86400")
    error_message = "A job cannot run for ever."
  }
}

run "with_a_limit_to_what_a_night_changes" {
  command = apply

  variables {
    images    = "abc1234"
    max_churn = 0.2
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).songs == { output = "gs://project-1-sssl/out", max_churn = "0.2" }
    error_message = "The limit reaches the job of the songs."
  }

  assert {
    condition     = strcontains(google_monitoring_alert_policy.this["churn"].conditions[0].condition_threshold[0].filter, google_logging_metric.churn.name)
    error_message = "Whoever can publish nevertheless is told."
  }
}

run "a_limit_that_is_no_share" {
  command = plan

  variables {
    max_churn = 20
  }

  expect_failures = [var.max_churn]
}

run "without_gpus" {
  command = apply

  variables {
    images = "abc1234"
    gpu    = null
  }

  assert {
    condition     = !can(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).score.accelerator)
    error_message = "Without a GPU none is asked for."
  }

  assert {
    condition     = !can(jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).trainer_machine.acceleratorType)
    error_message = "Without a GPU training runs on a CPU."
  }
}

run "a_hint_in_the_place_of_a_gpu_s_type" {
  command = plan

  variables {
    gpu = { dataflow = "type:nvidia-l4;count:1", vertex = "NVIDIA_L4", machine = "g2-standard-8" }
  }

  expect_failures = [var.gpu]
}

run "flags_of_no_stage" {
  command = plan

  variables {
    flags = { publish = {} }
  }

  expect_failures = [var.flags]
}

run "with_a_key_of_one_s_own" {
  command = apply

  variables {
    images  = "abc1234"
    kms_key = "projects/keys/locations/europe-west4/keyRings/ring/cryptoKeys/sssl"
  }

  assert {
    condition = alltrue([
      for key in [
        google_storage_bucket.output.encryption[0].default_kms_key_name,
        google_storage_bucket.work.encryption[0].default_kms_key_name,
        google_bigquery_dataset.sssl.default_encryption_configuration[0].kms_key_name,
        google_artifact_registry_repository.images.kms_key_name,
        google_secret_manager_secret.mlflow_uri.replication[0].user_managed[0].replicas[0].customer_managed_encryption[0].kms_key_name,
        google_cloud_run_v2_job.command[0].template[0].template[0].encryption_key,
        google_workflows_workflow.nightly[0].crypto_key_name,
        jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.kmsKeyName,
        jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).trainer_job.encryptionSpec.kmsKeyName,
      ] : key == var.kms_key
    ])
    error_message = "Whatever stores something for us encrypts it with the key."
  }

  assert {
    condition     = length(google_kms_crypto_key_iam_member.agent) == 9
    error_message = "Each service that stores something may use the key."
  }
}

run "in_a_shared_vpc" {
  command = apply

  variables {
    images     = "abc1234"
    subnetwork = "projects/host/regions/europe-west4/subnetworks/data"
  }

  assert {
    condition     = length(google_compute_network.this) + length(google_compute_subnetwork.workers) + length(google_compute_firewall.between_workers) == 0
    error_message = "With a shared VPC no network is made here."
  }

  assert {
    condition     = jsondecode(google_workflows_workflow.nightly[0].user_env_vars["SETTINGS"]).environment.subnetwork == "https://www.googleapis.com/compute/v1/projects/host/regions/europe-west4/subnetworks/data" && google_cloud_run_v2_job.command[0].template[0].template[0].vpc_access[0].network_interfaces[0].subnetwork == "https://www.googleapis.com/compute/v1/projects/host/regions/europe-west4/subnetworks/data"
    error_message = "Workers and commands run in the shared subnetwork."
  }

  assert {
    condition     = sort(keys(google_compute_subnetwork_iam_member.shared)) == tolist(["dataflow", "launcher", "run", "worker"]) && google_compute_subnetwork_iam_member.shared["dataflow"].project == "host"
    error_message = "Who puts machines into it may use it."
  }
}

run "a_key_without_its_full_name" {
  command = plan

  variables {
    kms_key = "sssl"
  }

  expect_failures = [var.kms_key]
}

run "a_subnetwork_without_its_full_name" {
  command = plan

  variables {
    subnetwork = "data"
  }

  expect_failures = [var.subnetwork]
}
