{{- define "fashionistar.valkeyFiles" -}}
valkey.sh: |
  {{- .Files.Get "files/valkey.sh" | nindent 2 }}
valkey.conf: |
  port 6379
  protected-mode no
  aclfile /run/valkey/users.acl
  dir /data
  cluster-enabled yes
  cluster-config-file nodes.conf
  cluster-node-timeout 5000
  cluster-require-full-coverage no
  cluster-preferred-endpoint-type hostname
  # No replica: a task is safe when it is on this disk, so every write waits for it (1 to 2 ms, shared by a batch).
  appendonly yes
  appendfsync always
  save ""
  maxmemory {{ .Values.valkey.queue.maxmemory }}
  maxmemory-policy noeviction
{{- end -}}
