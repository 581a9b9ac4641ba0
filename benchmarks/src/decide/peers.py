"""Asks OPA and Cerbos for the decisions that the gateway is asked for, and says what each took.

The first argument is a folder with `policies.cedar` and `requests.json`, both generated: every policy is one of few forms,
so that Rego and CEL can be spelt from its text. `--opa FILE` is OPA's C library, `--cerbos FILE` Cerbos's program. One line
of JSON for each figure goes to standard output. A peer whose decisions differ from the expected ones ends the run.
"""

import argparse
import ctypes
import http.client
import json
import pathlib
import re
import socket
import statistics
import subprocess
import tempfile
import time

POLICY = re.compile(
    r'(permit|forbid) \((principal(?: in Role::"(\w+)")?), (action(?: in (.*?))?), '
    r'(resource(?: (?:in|==) Module::"(\w+)")?)\) (.*?);\n', re.S)
CLAUSE = re.compile(r'(when|unless) \{ (.*?) \}(?= unless|$)', re.S)
HAS = re.compile(r'context\.parameters has (\w+)')
CONTAINS = re.compile(r'(\[[^\]]*\])\.contains\(([^)]*)\)')
RANGE = re.compile(r'context\.client\.isInRange\(ip\(("[^"]*")\)\)')
MOMENT = re.compile(r'datetime\("([^"]*)"\)')
ROUNDS = 5
ROUND_SECONDS = 3.0


def policies(text):
    """Effect, role, actions, groups, module and clauses of each policy."""
    for effect, _, role, _, action, _, module, rest in POLICY.findall(text):
        named = re.findall(r'"([\w.]+)"', action)
        yield {
            "permits": effect == "permit",
            "role": role,
            "actions": [name for name in named if "." in name],
            "groups": [name for name in named if "." not in name],
            "module": module,
            "clauses": CLAUSE.findall(rest.strip()),
        }


def cel(clauses):
    """The clauses as one CEL expression."""
    parts = []
    for kind, text in clauses:
        text = HAS.sub(r'has(R.attr.parameters.\1)', text)
        text = CONTAINS.sub(r'(\2 in \1)', text)
        text = RANGE.sub(r'R.attr.client.inIPAddrRange(\1)', text)
        text = MOMENT.sub(r'timestamp("\1T00:00:00Z")', text)
        text = text.replace("context.time", "timestamp(R.attr.time)")
        text = text.replace("context.", "R.attr.").replace("principal.", "P.attr.")
        parts.append(f"({text})" if kind == "when" else f"!({text})")
    return " && ".join(parts)


def rego(clauses):
    """The clauses as bodies of Rego rules, of which one must hold."""
    bodies = [[]]
    for kind, text in clauses:
        if kind == "unless":
            # A disjunction would need a rule of its own: what is generated here has none under `unless`.
            text = {"!principal.suspended": "principal.suspended"}.get(text) or text.replace("==", "!=")
        text = HAS.sub(r'true', text)
        text = CONTAINS.sub(r'\2 in \1', text)
        text = RANGE.sub(r'net.cidr_contains(\1, input.client)', text)
        text = MOMENT.sub(r'"\1T00:00:00.000Z"', text)
        text = text.replace("!context.", "not input.").replace("context.", "input.").replace("principal.", "input.")
        either = [part.strip().split(" && ") for part in text.split(" || ")]
        bodies = [body + part for body in bodies for part in either]
    return [[line for line in body if line != "true"] for body in bodies]


def module_of_rego(rules):
    """One module for all policies, a rule each, that tests what OPA's rule index can look up first."""
    lines = ["package bench", "import rego.v1", "default allow := false", "default permits := false",
             "default forbids := false", "allow if { permits; not forbids }"]
    for rule in rules:
        scope = []
        if rule["module"]:
            key = "area" if rule["module"].startswith("area") else "module"
            scope.append(f'input.{key} == "{rule["module"]}"')
        if rule["groups"]:
            scope.append(f'input.group == "{rule["groups"][0]}"')
        if rule["actions"]:
            scope.append(f"input.action in {json.dumps(rule['actions'])}")
        if rule["role"]:
            scope.append(f'"{rule["role"]}" in input.roles')
        for body in rego(rule["clauses"]):
            name = "permits" if rule["permits"] else "forbids"
            lines.append(f"{name} if {{ {'; '.join(scope + body) or 'true'} }}")
    return "\n".join(lines) + "\n"


def policies_of_cerbos(rules, modules):
    """One resource policy a module; what holds for an area or for all stands in each of its modules."""
    held = {name: [] for name in modules}
    groups = {"read": ["items.list", "items.read", "items.export"],
              "write": ["items.create", "items.update", "items.delete"]}
    for rule in rules:
        actions = rule["actions"] + [name for group in rule["groups"] for name in groups[group]]
        condition = cel(rule["clauses"])
        made = {"actions": actions or ["*"], "effect": "EFFECT_ALLOW" if rule["permits"] else "EFFECT_DENY",
                "roles": [rule["role"] or "*"]}
        # A denial for one role must hold whatever another role allows.
        if rule["role"] and not rule["permits"]:
            made["roles"] = ["*"]
            condition = " && ".join([f'"{rule["role"]}" in P.roles'] + ([condition] if condition else []))
        if condition:
            made["condition"] = {"match": {"expr": condition}}
        for name, area in modules.items():
            if rule["module"] in ("", name, area):
                held[name].append(made)
    for name, made in held.items():
        yield name, {"apiVersion": "api.cerbos.dev/v1",
                     "resourcePolicy": {"resource": name, "version": "default", "rules": made}}


def measured(peer, count, requests, call):
    """Holds every decision against the expected one, then times the calls one by one."""
    wrong = [number for number, one in enumerate(requests) if call(number) != one["permitted"]]
    if wrong:
        raise SystemExit(f"{peer} decides {len(wrong)} of {len(requests)} requests otherwise, the first {wrong[0]}")
    taken = [[] for _ in requests]
    for _ in range(ROUNDS):
        until = time.monotonic() + ROUND_SECONDS
        for number, times in enumerate(taken):
            begun = time.perf_counter_ns()
            call(number)
            times.append(time.perf_counter_ns() - begun)
            if time.monotonic() > until:
                break
    medians = sorted(statistics.median(times) for times in taken if times)
    for name, percent in [("p50", 50), ("p99", 99)]:
        value = medians[min(len(medians) * percent // 100, len(medians) - 1)]
        print(json.dumps({"name": f"decide.{peer}_{name}_ns.{count}", "value": value}), flush=True)


def opa(library, count, rules, requests):
    """OPA in this process: the text of the input goes in, the text of the result comes out."""
    bridge = ctypes.CDLL(library)
    text, handle = ctypes.c_char_p, ctypes.c_uint64
    for name, result, arguments in [
        ("OpaNew", handle, []),
        ("OpaAddPolicy", ctypes.c_void_p, [handle, text, text]),
        ("OpaEvalQuery", ctypes.c_void_p, [handle, text, text, ctypes.c_int, ctypes.c_int]),
        ("OpaFreeString", None, [ctypes.c_void_p]),
    ]:
        function = getattr(bridge, name)
        function.restype, function.argtypes = result, arguments

    def taken(pointer):
        answer = ctypes.string_at(pointer)
        bridge.OpaFreeString(pointer)
        return answer

    engine = bridge.OpaNew()
    answer = taken(bridge.OpaAddPolicy(engine, b"bench.rego", module_of_rego(rules).encode()))
    if json.loads(answer).get("error"):
        raise SystemExit(f"OPA: {answer[:500]}")
    inputs = [json.dumps(one).encode() for one in requests]

    def call(number):
        answer = taken(bridge.OpaEvalQuery(engine, b"data.bench.allow", inputs[number], 0, 0))
        if b'"error":{' in answer:
            raise SystemExit(f"OPA: {answer[:500]}")
        return b"true" in answer

    measured("opa", count, requests, call)


def cerbos(program, count, rules, requests):
    """Cerbos as a server on loopback, asked over one connection that is kept."""
    modules = {one["module"]: one["area"] for one in requests}
    with tempfile.TemporaryDirectory() as folder:
        for name, policy in policies_of_cerbos(rules, modules):
            pathlib.Path(folder, f"{name}.json").write_text(json.dumps(policy))
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        settings = {"server.httpListenAddr": f"127.0.0.1:{ports[0]}", "server.grpcListenAddr": f"127.0.0.1:{ports[1]}",
                    "storage.driver": "disk", "storage.disk.directory": folder, "telemetry.disabled": "true"}
        command = [program, "server", "--log-level=error"] + [f"--set={key}={value}" for key, value in settings.items()]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            connection = connected(server, ports[0])
            print(json.dumps({"name": f"decide.cerbos_loopback_p50_ns.{count}", "value": loopback(connection)}))
            bodies = [body_of_cerbos(one) for one in requests]
            measured("cerbos", count, requests, lambda number: checked(connection, bodies[number]))
        finally:
            server.kill()
            server.wait()


def connected(server, port):
    """A connection to the server, once it answers that it is well."""
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/_cerbos/health")
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                # Head and body go out as two packets, and the second must not wait for the first.
                connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("Cerbos does not serve")


def loopback(connection):
    """What a call costs that decides nothing."""
    taken = []
    for _ in range(200):
        begun = time.perf_counter_ns()
        connection.request("GET", "/_cerbos/health")
        connection.getresponse().read()
        taken.append(time.perf_counter_ns() - begun)
    return statistics.median(taken)


def body_of_cerbos(one):
    attributes = {key: one[key] for key in ["method", "client", "time", "assurance", "tls", "class", "parameters"]}
    return json.dumps({
        "requestId": "bench",
        "principal": {"id": one["name"], "roles": one["roles"],
                      "attr": {"name": one["name"], "suspended": one["suspended"]}},
        "resources": [{"actions": [one["action"]],
                       "resource": {"kind": one["module"], "id": "x", "attr": attributes}}],
    })


def checked(connection, body):
    connection.request("POST", "/api/check/resources", body, {"Content-Type": "application/json"})
    answer = connection.getresponse().read()
    return b"EFFECT_ALLOW" in answer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--opa")
    parser.add_argument("--cerbos")
    options = parser.parse_args()
    rules = list(policies((options.folder / "policies.cedar").read_text()))
    requests = json.loads((options.folder / "requests.json").read_text())
    for peer, where in [(opa, options.opa), (cerbos, options.cerbos)]:
        if where:
            peer(where, len(rules), rules, requests)


if __name__ == "__main__":
    main()
