{{- define "trireme.labels" -}}
{{ include "trireme.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{- /* What selects the pods of one Deployment. Called with root, component, and entry for models. */ -}}
{{- define "trireme.selector" -}}
app.kubernetes.io/name: trireme
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .entry }}
trireme/entry: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "trireme.image" -}}
{{ printf "%s:%s" .repository .tag | quote }}
{{- end }}

{{- define "trireme.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "trireme.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* Of every pod: no token, and no variables of Services, which would be unknown TRIREME_ settings. */ -}}
{{- define "trireme.pod" -}}
serviceAccountName: {{ .Release.Name | quote }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- end }}

{{- /* Replicas of one Deployment stand on different machines where they can. */ -}}
{{- define "trireme.spread" -}}
topologySpreadConstraints:
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "trireme.selector" $ | nindent 8 }}
{{- end }}
{{- end }}

{{- define "trireme.secretVariable" -}}
- name: {{ .name }}
  valueFrom:
    secretKeyRef: {name: {{ .from.secret | quote }}, key: {{ .from.key | quote }}}
{{- end }}

{{- /* Of gateway and worker: where the models answer, and the stores. */ -}}
{{- define "trireme.clientVariables" -}}
- {name: TRIREME_HOST, value: {{ .Release.Name }}-envoy}
- {name: TRIREME_GRPC_PORT, value: {{ .Values.envoy.listen.port | quote }}}
# Behind Envoy's address: who says which models are served.
- {name: TRIREME_SERVER_HOSTS, value: {{ include "trireme.hosts" . | quote }}}
{{ include "trireme.commonVariables" . }}
{{- end }}

{{- define "trireme.hosts" -}}
{{- $hosts := list }}
{{- range $name, $_ := .Values.models }}{{ $hosts = append $hosts (printf "%s-%s" $.Release.Name $name) }}{{ end }}
{{- join "," $hosts }}
{{- end }}

{{- define "trireme.commonVariables" -}}
- {name: TRIREME_MODEL_REPOSITORY, value: /models}
- {name: TRIREME_DATA_DIR, value: /tmp/trireme}
- {name: HOME, value: /tmp}
{{ include "trireme.secretVariable" (dict "name" "TRIREME_DATABASE_URL" "from" .Values.secrets.database) }}
{{- end }}

{{- define "trireme.modelVolume" -}}
- name: models
{{- with .Values.modelRepository.volume }}
  {{- toYaml . | nindent 2 }}
{{- else }}
  persistentVolumeClaim: {claimName: {{ .Values.modelRepository.claimName | quote }}, readOnly: true}
{{- end }}
{{- end }}

{{- /* A folder of the model repository: "" or that of one model. */ -}}
{{- define "trireme.modelPath" -}}
{{ list .root.Values.modelRepository.subPath .model | compact | join "/" }}
{{- end }}

{{- define "trireme.disruptionBudget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "trireme.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  # A pod that is not ready may go: else a node with broken ones is never emptied.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels: {{- include "trireme.selector" . | nindent 6 }}
{{- end }}

{{- /* An entry's `scale` over the defaults; "on" and "target" are its own. */ -}}
{{- define "trireme.scale" -}}
{{- toYaml (mergeOverwrite (deepCopy .root.Values.scaling.defaults) (deepCopy (.scale | default dict))) }}
{{- end }}

{{- /* How many replicas beyond the most, and below the wanted, a new version may take. GPUs are counted: none beyond. */ -}}
{{- define "trireme.surge" -}}
{{- $scale := .scale | default dict -}}
{{- if hasKey $scale "surge" }}{{ $scale.surge }}{{ else if eq .target "gpu" }}0{{ else }}1{{ end }}
{{- end }}

{{- /* How long gateway and Envoy wait: answers of all entries go through them. */ -}}
{{- define "trireme.longestOfAll" -}}
{{- $longest := int .Values.drain.longestAnswerSeconds }}
{{- range .Values.models }}{{ $longest = max $longest (include "trireme.longestAnswer" (dict "root" $ "entry" .) | int) }}{{ end }}
{{- $longest }}
{{- end }}

{{- define "trireme.longestAnswer" -}}
{{- dig "longestAnswerSeconds" .root.Values.drain.longestAnswerSeconds (.entry.drain | default dict) }}
{{- end }}

{{- /* gateway.toml, and behind it the regions where it does not name them: by them the gateway keeps calls of tenants
       that forbid a region from going there. */ -}}
{{- define "trireme.gatewayToml" -}}
{{- .Values.gateway.toml }}
{{- if and (gt (len .Values.regions) 1) (not (hasKey (fromToml .Values.gateway.toml) "local")) }}
{{- $others := list }}
{{- range rest .Values.regions }}{{ $others = append $others .name }}{{ end }}
{{- if .Values.gateway.toml }}{{ print "\n" }}{{ end }}[local]
region = {{ (first .Values.regions).name | quote }}
other_regions = {{ toJson $others }}
{{ end }}
{{- end }}
