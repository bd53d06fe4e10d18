{{/* Name of the operator's objects. It never equals that of a server: pywharf makes objects of the server's name. */}}
{{- define "pywharf.name" -}}
{{- $release := .Release.Name | trunc 38 | trimSuffix "-" -}}
{{- if contains "pywharf" $release -}}
{{ $release }}-operator
{{- else -}}
{{ $release }}-pywharf-operator
{{- end -}}
{{- end -}}

{{/* Name of cluster-wide objects: another namespace may have a release of the same name. */}}
{{- define "pywharf.clusterName" -}}
{{ .Release.Namespace }}-{{ include "pywharf.name" . }}
{{- end -}}

{{- define "pywharf.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{ .Values.serviceAccount.name | default (include "pywharf.name" .) }}
{{- else -}}
{{ .Values.serviceAccount.name }}
{{- end -}}
{{- end -}}

{{- define "pywharf.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Immutable in a Deployment: nothing here may ever change. */}}
{{- define "pywharf.selector" -}}
app.kubernetes.io/name: pywharf
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end -}}

{{/* metadata: of a dict of root and name, and where needed component, namespace, cluster, labels and annotations. */}}
{{- define "pywharf.metadata" -}}
{{- $root := .root -}}
{{- $own := dict
  "app.kubernetes.io/name" "pywharf"
  "app.kubernetes.io/instance" $root.Release.Name
  "app.kubernetes.io/component" (.component | default "operator")
  "app.kubernetes.io/part-of" "pywharf"
  "app.kubernetes.io/version" $root.Chart.AppVersion
  "app.kubernetes.io/managed-by" $root.Release.Service
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_") -}}
name: {{ .name | quote }}
{{- if not .cluster }}
namespace: {{ .namespace | default $root.Release.Namespace | quote }}
{{- end }}
labels:
  {{- toYaml (merge $own (.labels | default dict) ($root.Values.labels | default dict) ($root.Values.commonLabels | default dict)) | nindent 2 }}
{{- with merge (dict) (.annotations | default dict) ($root.Values.annotations | default dict) ($root.Values.commonAnnotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether pods name no user ids; a release that is upgraded with --reuse-values has no such value. */}}
{{- define "pywharf.idsFromCluster" -}}
{{- if eq (dig "userIDs" "Fixed" (.Values.security | default dict)) "FromCluster" -}}
true
{{- end -}}
{{- end -}}

{{/* Security context: of a dict of root and context, as YAML; empty where there is none. */}}
{{- define "pywharf.securityContext" -}}
{{- $context := .context | default dict -}}
{{- if include "pywharf.idsFromCluster" .root -}}
{{- $context = omit $context "runAsUser" "runAsGroup" "fsGroup" "supplementalGroups" -}}
{{- end -}}
{{- with $context -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{/* The namespaces that are watched, as {"names": […]}. */}}
{{- define "pywharf.watched" -}}
{{- dict "names" (.Values.watch.namespaces | default (list .Release.Namespace) | uniq) | toJson -}}
{{- end -}}

{{/* What no schema can say. */}}
{{- define "pywharf.check" -}}
{{- range $name := list "commonLabels" "commonAnnotations" -}}
{{- range $key, $_ := index $.Values $name | default dict -}}
{{- if or (hasPrefix "pywharf.dev/" $key) (has $key (list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/part-of" "app.kubernetes.io/managed-by")) -}}
{{- fail (printf "%s: %s is a key of pywharf's own; leave it out." $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and .Values.watch.allNamespaces .Values.watch.namespaces -}}
{{- fail "watch: namespaces and allNamespaces exclude each other; leave one out." -}}
{{- end -}}
{{- if not (or .Values.serviceAccount.create .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false, so serviceAccount.name must name one that exists." -}}
{{- end -}}
{{- $watched := (include "pywharf.watched" . | fromJson).names -}}
{{- if not (or .Values.watch.allNamespaces (has .Release.Namespace $watched)) -}}
{{- if or (include "pywharf.served" .) .Values.repos -}}
{{- fail (printf "watch.namespaces must hold the release's own, %s, which has the server and the repos; or set createServer to false and repos to {}." .Release.Namespace) -}}
{{- end -}}
{{- end -}}
{{- if include "pywharf.served" . -}}
{{- if eq (include "pywharf.serviceAccountName" .) "pywharf" -}}
{{- fail "serviceAccount.name: pywharf is the account of the server of that name; choose another." -}}
{{- end -}}
{{- if and (eq (dig "allowedNamespaces" "from" "" .Values.server) "Selector") (not .Values.watch.allNamespaces) -}}
{{- fail "server.allowedNamespaces.from: Selector needs watch.allNamespaces: true, since labels of namespaces are read." -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Rules of the operator in each namespace that it watches: those of pywharf_operator/spec/rights.py, in its order. */}}
{{- define "pywharf.rules" -}}
- apiGroups: [pywharf.dev]
  resources: [packagerepos, packageservers, packagepolicies]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [serviceaccounts, secrets, configmaps, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, list, watch, create, patch]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [autoscaling]
  resources: [horizontalpodautoscalers]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies, ingresses]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [gateway.networking.k8s.io]
  resources: [httproutes]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [monitoring.coreos.com]
  resources: [servicemonitors]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [batch]
  resources: [cronjobs, jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, patch]
- apiGroups: [""]
  resources: [events]
  verbs: [create, list]
- apiGroups: [pywharf.dev]
  resources: [packagerepos/status, packageservers/status, packagepolicies/status]
  verbs: [patch]
{{- end -}}

{{- define "pywharf.subjects" -}}
- kind: ServiceAccount
  name: {{ include "pywharf.serviceAccountName" . | quote }}
  namespace: {{ .Release.Namespace | quote }}
{{- end -}}

{{/* Whether the release has a server. A parent chart cannot say `server: null`, so there is a switch; a release of 0.1.0
that is upgraded with --reuse-values has none. */}}
{{- define "pywharf.served" -}}
{{- if and (or .Values.createServer (not (hasKey .Values "createServer"))) (kindIs "map" .Values.server) -}}
true
{{- end -}}
{{- end -}}

{{/* Whether there is a server that a fileSystem repo can be tried on. */}}
{{- define "pywharf.testable" -}}
{{- if include "pywharf.served" . -}}
{{- if .Values.server.storage -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Credentials of a repo of `repos`, with those of the Secret that is made for it: of a dict of name and repo, as JSON. */}}
{{- define "pywharf.credentials" -}}
{{- $given := .repo.spec.credentials | default dict -}}
{{- $own := dict -}}
{{- if .repo.createSecret -}}
{{- if not $given.anonymousRead -}}
{{- $_ := set $own "readSecretRef" (dict "name" .name "key" "read") -}}
{{- end -}}
{{- if not $given.readOnly -}}
{{- $_ := set $own "writeSecretRef" (dict "name" .name "key" "write") -}}
{{- end -}}
{{- end -}}
{{- merge (deepCopy $given) $own | toJson -}}
{{- end -}}

{{/* URL of the default server inside the cluster. */}}
{{- define "pywharf.url" -}}
{{ if .Values.server.tls }}https{{ else }}http{{ end }}://pywharf.{{ .Release.Namespace }}.svc
{{- end -}}
