#!/usr/bin/python3
"""Stands for the module `oxlorg.opnsense.raw`: the same arguments, the same calls, nothing else of the collection."""

import base64
import json
import ssl
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule


def main():
    module = AnsibleModule(
        argument_spec={
            "module": {"type": "str", "aliases": ["m", "mod"]},
            "controller": {"type": "str", "aliases": ["co", "cont"]},
            "command": {"type": "str", "aliases": ["c", "cmd"]},
            "parameters": {"type": "list", "elements": "str", "aliases": ["p", "params"]},
            "action": {"type": "str", "aliases": ["a", "method"], "choices": ["get", "post"], "default": "get"},
            "data": {"type": "dict", "aliases": ["d"]},
            "firewall": {"type": "str", "required": True},
            "api_port": {"type": "int", "default": 443},
            "api_credential_file": {"type": "path"},
            "ssl_ca_file": {"type": "path"},
        }
    )
    given = module.params
    with open(given["api_credential_file"], encoding="utf-8") as file:
        key = dict(line.strip().split("=", 1) for line in file if "=" in line)
    parts = [given["module"], given["controller"], given["command"], *(given["parameters"] or [])]
    url = f"https://{given['firewall']}:{given['api_port']}/api/{'/'.join(parts)}"
    word = base64.b64encode(f"{key['key']}:{key['secret']}".encode()).decode()
    headers, body = {"Authorization": f"Basic {word}"}, None
    if given["data"]:
        headers["Content-Type"], body = "application/json", json.dumps(given["data"]).encode()
    request = urllib.request.Request(url, data=body, headers=headers, method=given["action"].upper())
    context = ssl.create_default_context(cafile=given["ssl_ca_file"])
    try:
        with urllib.request.urlopen(request, context=context) as answer:
            module.exit_json(changed=given["action"] == "post", response=json.load(answer))
    except urllib.error.URLError as error:
        module.fail_json(msg=str(error))


main()
