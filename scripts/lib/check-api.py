"""Runs schemathesis with names of machines that exist: see scripts/check-api."""

import json
import os
import subprocess
import sys
import urllib.request

document, address, token, examples, service, seed = sys.argv[1:]
NAMES = ["halt", "echo", "memory", "stopped"]
# What the service ends itself, and what has no end; streams are tested with other clients.
LEFT_OUT = [
    "host-stop", "events", "follow", "attach", "view", "page", "file",
    "machine-events", "trace", "trace-with", "watch-console", "use-console", "watch-screen", "machine-screen", "socket",
]
# Half of what names something of a machine names what some machines have.
KNOWN = {
    "key": ["a", "a/b", "OSName"],
    "disk": ["disk0.0", "disk0.1"],
    "adapter": ["net0", "net1"],
    "device": ["memory", "net0", "heartbeat"],
    "command": ["set", "link", "text"],
}

with open(document) as file:
    api = json.load(file)
for path, methods in api["paths"].items():
    for method, operation in methods.items():
        for parameter in operation.get("parameters", []):
            if parameter["name"] == "name" and path.startswith("/machines"):
                # Half of the names exist. A machine that is removed comes back as one that is defined anew.
                parameter["schema"] = {"anyOf": [{"enum": NAMES}, parameter["schema"]]}
            if parameter["name"] in KNOWN:
                parameter["schema"] = {"anyOf": [{"enum": KNOWN[parameter["name"]]}, parameter["schema"]]}
        body = operation.get("requestBody", {}).get("content", {})
        if "application/toml" in body:
            # What schemathesis invents is rarely TOML.
            body["application/toml"]["schema"] = {"enum": ["cmdline = \"halt\"", "# nothing", "x = 1", "memory = \"64M\"\n[service]\nrestart = \"never\""]}
for job in api["components"]["schemas"]["NewJob"]["oneOf"]:
    job["properties"]["machine"] = {"enum": NAMES}
    if job["properties"]["kind"]["const"] == "memory":
        job["properties"]["arguments"]["properties"]["size"] = {"enum": ["100M", "128M", "150M"]}
changed = document + ".changed"
with open(changed, "w") as file:
    json.dump(api, file)

# Disks and adapters that exist, or cost nothing.
api["components"]["schemas"]["Attach"]["properties"]["what"] = {"enum": ["memory:1M", "memory:1M,lun=5", "none", "/nonexistent", "memory:1M,what=1"]}
# Not all that fits a schema is accepted: a definition is TOML, a device has some commands and no others, and addresses have a form.
PARTLY = ["define", "read-settings", "begin", "command", "set-memory", "type", "press", "screenshot", "set-item", "attach-disk",
          "attach-adapter", "resize-disk", "configure-adapter", "copy", "wait-for-screen"]
config = document + ".config"
with open(config, "w") as file:
    for operation in PARTLY:
        file.write(f'[[operations]]\ninclude-operation-id = "{operation}"\n[operations.checks]\npositive_data_acceptance.enabled = false\n')

command = [sys.executable, "-m", "schemathesis.cli", "--config-file", config, "run", changed, "--url", address, "--header", f"Authorization: Bearer {token}", "--max-examples", examples,
           "--request-timeout", "30", "--continue-on-failure", "--suppress-health-check", "all", "--no-shrink",
           # After ten wrong tokens, all tokens of an address are refused for a while: tests/guests/serve/roles.rs.
           "--exclude-checks", "ignored_auth"]
if seed:
    # The stateful phase follows links, which the description does not have.
    command += ["--seed", seed, "--phases", "examples,coverage,fuzzing"]
for operation in LEFT_OUT:
    command += ["--exclude-operation-id", operation]
# It keeps its findings in the working directory.
done = subprocess.run(command, cwd=os.path.dirname(document))

# Cases that only meet names that are not there test little.
request = urllib.request.Request(address + "metrics", headers={"Authorization": f"Bearer {token}"})
for line in urllib.request.urlopen(request).read().decode().splitlines():
    if line.startswith("viridian_requests_total"):
        print(line)
with open(f"/proc/{service}/status") as status:
    resident = next(line for line in status if line.startswith("VmRSS"))
print("the service has", " ".join(resident.split()[1:]))
sys.exit(done.returncode)
