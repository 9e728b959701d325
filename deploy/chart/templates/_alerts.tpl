{{- /* All rules: what PrometheusRule holds, and deploy/prometheus/rules.yaml and budgets.yaml for a Prometheus of one's own. */ -}}
{{- define "trireme.ruleGroups" -}}
groups:
  - name: trireme-scaling
    interval: 15s
    rules:
      {{- include "trireme.scalingRules" . | nindent 6 }}
  - name: trireme-alerts
    interval: 30s
    rules:
      {{- include "trireme.modelAlerts" . | nindent 6 }}
      {{- include "trireme.sharedAlerts" . | nindent 6 }}
  {{- .Files.Get "files/budgets.yaml" | replace "NAMESPACE" .Release.Namespace | replace "RUNBOOK" .Values.monitoring.runbook | nindent 2 }}
{{- end }}

{{- /* Where a cap, a drain time or a warm-up is an entry's own. */ -}}
{{- define "trireme.modelAlerts" -}}
{{- $namespace := .Release.Namespace }}
{{- $scaled := list }}
{{- range $name, $entry := .Values.models }}
{{- $scale := include "trireme.scale" (dict "root" $ "scale" $entry.scale) | fromYaml }}
{{- $on := get $scale "on" | default (ternary "work" "requests" (eq $entry.target "gpu")) }}
{{- $deployment := printf "%s-%s" $.Release.Name $name }}
{{- $scaled = append $scaled $deployment }}
{{- $series := printf "namespace=%q,model=~%q" $namespace (include "trireme.modelPattern" $entry) }}
{{- $warmup := dig "seconds" 300 ($entry.warmup | default dict) | int }}
{{- if ne $on "p95" }}
{{- $per := ternary "" (printf " / %v" $scale.target) (eq $on "work") }}
{{ include "trireme.alert" (dict "root" $ "deployment" $deployment "name" "TriremeAtMaximum" "for" "10m" "severity" "warning" "anchor" "at-the-cap"
  "expr" (printf "trireme:scale_signal{namespace=%q,deployment=%q}%s > %v" $namespace $deployment $per $entry.replicas.max)
  "summary" (printf "%s wants {{ $value | humanize }} replicas; its max is %v." $deployment $entry.replicas.max)) }}
{{- end }}
{{ include "trireme.alert" (dict "root" $ "deployment" $deployment "name" "TriremeBacklogGrows" "for" "5m" "severity" "warning" "anchor" "overload"
  "expr" (printf "sum(trireme_backlog_seconds{%s})\n/ count(count by (pod) (trireme_backlog_seconds{%s})) > %v" $series $series (mul 2 (int $scale.drainSeconds)))
  "summary" (printf "{{ $value | humanize }} s of work wait on each replica of %s." $deployment)) }}
{{ include "trireme.alert" (dict "root" $ "deployment" $deployment "name" "TriremeColdStartSlow" "for" (printf "%ds" (div (mul 8 $warmup) 10)) "severity" "warning" "anchor" "slow-cold-start"
  "expr" (printf "max by (pod) (trireme_replica_fault{namespace=%q,pod=~%q,kind=~%q}) == 1" $namespace (printf "%s-[a-z0-9]+-[a-z0-9]+" $deployment) "starting|server_away|model_cold")
  "summary" (printf "{{ $labels.pod }} is still loading; a start of %s is ended after %v s." $deployment $warmup)) }}
{{- end }}
{{- if ne (get .Values.gateway.scale "on") "cpu" }}{{ $scaled = append $scaled (printf "%s-gateway" .Release.Name) }}{{ end }}
{{- range append $scaled (printf "%s-worker" .Release.Name) }}
{{ include "trireme.alert" (dict "root" $ "deployment" . "name" "TriremeScaleSignalLost" "for" "3m" "severity" "critical" "anchor" "scale-signal-lost"
  "expr" (printf "absent(trireme:scale_signal{namespace=%q,deployment=%q})" $namespace .)
  "summary" (printf "The autoscaler of %s reads nothing." .)) }}
{{- end }}
{{- end }}

{{- define "trireme.sharedAlerts" -}}
{{- $in := printf "namespace=%q" .Release.Namespace }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeNoHealthyReplica" "for" "30s" "severity" "critical" "anchor" "no-healthy-replica"
  "expr" (printf "max by (envoy_cluster_name) (envoy_cluster_membership_healthy{%s,envoy_cluster_name=~%q}) == 0" $in (include "trireme.nearCluster" (dict "root" . "name" (keys .Values.models | sortAlpha | join "|"))))
  "summary" "No replica of {{ $labels.envoy_cluster_name }} is healthy: its calls fail.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeReplicaNotReady" "for" "2m" "severity" "warning" "anchor" "replica-not-ready"
  "expr" (printf "max by (pod, kind) (trireme_replica_fault{%s,kind!~%q}) == 1" $in "starting|server_away|model_cold|draining")
  "summary" "{{ $labels.pod }} gets no calls: {{ $labels.kind }}.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeWorkRefused" "for" "5m" "severity" "warning" "anchor" "overload"
  "expr" (printf "sum by (model) (rate(trireme_rejected_work_seconds_total{%s}[5m]))\n/ sum by (model) (rate(trireme_offered_work_seconds_total{%s}[5m])) > 0.05" $in $in)
  "summary" "{{ $labels.model }} refuses {{ $value | humanizePercentage }} of the work that arrives.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeEnvoyRefuses" "for" "5m" "severity" "warning" "anchor" "envoy-refuses"
  "expr" (printf "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_pending_overflow{%s,envoy_cluster_name!~\".*_far(_batch)?\"}[5m]))\n+ sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_retry_overflow{%s}[5m])) > 0" $in $in)
  "summary" "Envoy refuses calls of {{ $labels.envoy_cluster_name }}, or retries of them.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeGatewayErrors" "for" "5m" "severity" "warning" "anchor" "gateway-errors"
  "expr" (printf "sum by (endpoint) (rate(trireme_gateway_requests_total{%s,status=~\"5..\"}[5m]))\n/ sum by (endpoint) (rate(trireme_gateway_requests_total{%s}[5m])) > 0.02" $in $in)
  "summary" "{{ $value | humanizePercentage }} of the requests to {{ $labels.endpoint }} end in a server's error.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeProviderAway" "for" "5m" "severity" "warning" "anchor" "gateway-errors"
  "expr" (printf "max by (target) (trireme_gateway_breaker_open{%s}) == 1" $in)
  "summary" "{{ $labels.target }} fails; it gets no requests.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeDatabaseAway" "for" "1m" "severity" "critical" "anchor" "stores-away"
  "expr" (printf "max(trireme_gateway_keys_age_seconds{%s}) > 30" $in)
  "summary" "A gateway has not read the database for {{ $value | humanize }} s.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeBudgetStoreAway" "for" "1m" "severity" "critical" "anchor" "stores-away"
  "expr" (printf "max(trireme_budget_store_away{%s}) == 1" $in)
  "summary" "The store of budgets does not answer a gateway.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeIngestionStill" "for" "15m" "severity" "warning" "anchor" "ingestion-stands-still"
  "expr" (printf "sum(min_over_time(trireme_backlog_seconds{%s,model=\"ingest\"}[15m])) > 0\nand sum(delta(trireme_backlog_seconds{%s,model=\"ingest\"}[15m])) >= 0" $in $in)
  "summary" "{{ $value | humanize }} s of documents wait, and do not become fewer.") }}
{{- if include "trireme.hasFailover" . }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeRegionAway" "for" "1m" "severity" "critical" "anchor" "a-region-does-not-answer"
  "expr" (printf "max by (region) (trireme_region_answers{%s}) == 0" $in)
  "summary" "Region {{ $labels.region }} does not answer; nothing would fail over to it.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeRegionOrderFlaps" "for" "5m" "severity" "warning" "anchor" "the-order-of-regions-flaps"
  "expr" (printf "max(increase(trireme_region_order_changes_total{%s}[1h])) > 6" $in)
  "summary" "The order of regions changed {{ $value | humanize }} times within an hour.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeFailoverStale" "for" "1m" "severity" "critical" "anchor" "a-region-does-not-answer"
  "expr" (printf "max by (pod) (trireme_region_files_faulty{%s}) == 1" $in)
  "summary" "{{ $labels.pod }} cannot write where other regions are; its Envoy keeps what it was told before.") }}
{{ include "trireme.alert" (dict "root" . "name" "TriremeFailoverAtCap" "for" "2m" "severity" "warning" "anchor" "failover-at-its-cap"
  "expr" (printf "sum by (envoy_cluster_name) (rate(envoy_cluster_upstream_rq_pending_overflow{%s,envoy_cluster_name=~\".*_far(_batch)?\"}[2m])) > 0" $in)
  "summary" "Calls of {{ $labels.envoy_cluster_name }} are refused: more would fail over than other regions may get.") }}
{{- end }}
{{- end }}
