# The whole configuration, planned against the provider's schema and no cloud: `tofu test`.
mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = {
      name  = "projects/project-1/serviceAccounts/sssl-role@project-1.iam.gserviceaccount.com"
      email = "sssl-role@project-1.iam.gserviceaccount.com"
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
    flags  = { segment = { max_error_ratio = "0.2" } }
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
    condition     = jsondecode(google_storage_bucket_object.template["score"].content).image == "europe-west4-docker.pkg.dev/project-1/sssl/launcher-score:abc1234"
    error_message = "A template starts the launcher of its stage."
  }

  assert {
    condition     = alltrue([for binding in google_project_iam_member.role : !contains(["roles/owner", "roles/editor", "roles/viewer", "roles/storage.admin", "roles/storage.objectAdmin"], binding.role)])
    error_message = "No account has a basic role, or all buckets."
  }

  assert {
    condition     = length(distinct([for account in google_service_account.role : account.account_id])) == 6
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
