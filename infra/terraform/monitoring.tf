resource "google_monitoring_notification_channel" "email" {
  display_name = "SSSL operators"
  type         = "email"
  labels       = { email_address = var.alert_email }

  depends_on = [google_project_service.api]
}

# What `sssl segment` and `sssl publish` say before they end with exit code 3.
resource "google_logging_metric" "error_ratio" {
  name        = "sssl/too-many-tracks-failed"
  description = "Runs of the segment stage that ended because more tracks failed than --max-error-ratio allows."
  filter      = "resource.type=\"cloud_run_job\" AND (jsonPayload.message:\"--max-error-ratio allows\" OR textPayload:\"--max-error-ratio allows\")"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.api]
}

# What `sssl publish` says before it ends with exit code 4.
resource "google_logging_metric" "churn" {
  name        = "sssl/too-many-labels-would-change"
  description = "Publications of songs that were stopped because more labels would change than --max-churn allows."
  filter      = "resource.type=\"cloud_run_job\" AND (jsonPayload.message:\"--max-churn allows\" OR textPayload:\"--max-churn allows\")"

  metric_descriptor {
    metric_kind = "DELTA"
    value_type  = "INT64"
  }

  depends_on = [google_project_service.api]
}

locals {
  # The number at the end of a machine's name is that of its vCPUs. A scoring job has workers of both kinds.
  cpu_vcpus     = tonumber(regex("[0-9]+$", var.worker_machine))
  gpu_vcpus     = var.gpu == null ? 0 : tonumber(regex("[0-9]+$", var.gpu.machine))
  planned_vcpus = max(var.max_workers * local.cpu_vcpus, var.max_gpu_workers * max(local.cpu_vcpus, local.gpu_vcpus))

  alerts = {
    error_ratio = {
      name      = "Too many tracks failed"
      filter    = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.error_ratio.name}\" AND resource.type=\"cloud_run_job\""
      aligner   = "ALIGN_SUM"
      threshold = 0
      help      = "More tracks failed than the run allows, so what was published stands. The message says how many and why (docs/reasons.md)."
    }
    churn = {
      name      = "Too many song labels would change"
      filter    = "metric.type=\"logging.googleapis.com/user/${google_logging_metric.churn.name}\" AND resource.type=\"cloud_run_job\""
      aligner   = "ALIGN_SUM"
      threshold = 0
      help      = "The new songs are there and not published; BigQuery and the report show the last ones. The message says how many labels would change and which models made them. `sssl publish --output ${local.output} --max-churn 1` publishes them; then start the workflow again for BigQuery and the report."
    }
    failed = {
      name      = "The nightly run failed"
      filter    = "metric.type=\"workflows.googleapis.com/finished_execution_count\" AND resource.type=\"workflows.googleapis.com/Workflow\" AND metric.labels.status=\"FAILED\""
      aligner   = "ALIGN_SUM"
      threshold = 0
      help      = "The execution's error names the stage and its job. Start it again once the cause is gone: it goes on where it stopped."
    }
    stuck = {
      name      = "A Dataflow job is stuck"
      filter    = "metric.type=\"dataflow.googleapis.com/job/elapsed_time\" AND resource.type=\"dataflow_job\""
      aligner   = "ALIGN_MAX"
      threshold = var.stuck_after_s
      help      = "A job has been running for longer than a run should take. Cancel it and start the workflow again: parts that are done stay done."
    }
    costly = {
      name      = "Dataflow uses more workers than planned"
      filter    = "metric.type=\"dataflow.googleapis.com/job/current_num_vcpus\" AND resource.type=\"dataflow_job\""
      aligner   = "ALIGN_MAX"
      threshold = local.planned_vcpus
      help      = "More vCPUs at once than the largest allowed number of workers has: look for jobs that the schedule did not start."
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  display_name          = "SSSL: ${each.value.name}"
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = each.value.name

    condition_threshold {
      filter          = each.value.filter
      comparison      = "COMPARISON_GT"
      threshold_value = each.value.threshold
      duration        = "0s"

      aggregations {
        alignment_period   = "300s"
        per_series_aligner = each.value.aligner
      }
    }
  }

  documentation {
    content   = each.value.help
    mime_type = "text/markdown"
  }
}

# Absence is looked for in at most 23.5 hours; a success counts for the 2.5 hours that it is in, too: 26 hours.
resource "google_monitoring_alert_policy" "freshness" {
  display_name          = "SSSL: No night has succeeded for 26 hours"
  combiner              = "OR"
  enabled               = !var.paused
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = "No night has succeeded for 26 hours"

    condition_absent {
      filter   = "metric.type=\"workflows.googleapis.com/finished_execution_count\" AND resource.type=\"workflows.googleapis.com/Workflow\" AND metric.labels.status=\"SUCCEEDED\""
      duration = "84600s"

      aggregations {
        alignment_period   = "9000s"
        per_series_aligner = "ALIGN_SUM"
      }
    }
  }

  documentation {
    content   = "Readers have labels of the day before yesterday. `gcloud workflows executions list sssl-nightly` says whether an execution is still at it, failed, or was never started."
    mime_type = "text/markdown"
  }
}

resource "google_billing_budget" "monthly" {
  for_each = toset(var.billing_account[*])

  billing_account = each.value
  display_name    = "SSSL"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      currency_code = var.currency
      units         = tostring(var.monthly_budget)
    }
  }

  dynamic "threshold_rules" {
    for_each = [0.5, 0.9, 1.0]
    content {
      threshold_percent = threshold_rules.value
    }
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
    disable_default_iam_recipients   = false
  }
}
