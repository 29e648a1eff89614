# A guest as a Nomad task: nomad job run guest.nomad.hcl
#
# The client needs the driver raw_exec, and its user needs access to /dev/kvm.
job "guest" {
  type = "batch"

  group "guests" {
    count = 2

    task "guest" {
      driver = "raw_exec"

      config {
        command = "/usr/local/bin/viridian"
        args = [
          "run", "--name", "guest-${NOMAD_ALLOC_INDEX}", "--kernel", "/srv/guest/vmlinuz",
          "--memory", "512M", "--net", "user", "--report", "${NOMAD_ALLOC_DIR}/report.json",
        ]
      }

      # The machine flushes its disks and ends.
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      resources {
        cores  = 1
        memory = 576
      }
    }
  }
}
