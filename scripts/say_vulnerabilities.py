"""Says what pip-audit answered, for scripts/audit.sh: `say_vulnerabilities.py ANSWER LOG LOCK SECONDS`."""

import json
import sys
from pathlib import Path


def lines_of(answer: str, log: str, lock: str, seconds: str) -> list[str]:
    """What to say.

    Args:
        answer: pip-audit's answer as JSON; empty where it gave none.
        log: what it said meanwhile.
        lock: the name of the file that was asked about.
        seconds: the time that it had.
    """
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError, TypeError):
        reason = next((line for line in reversed(log.splitlines()) if line.strip()), f"no answer within {seconds} s")
        return [f"the vulnerability service cannot be asked about {lock}, so nothing is known: {reason[:200]}"]
    known = [package for package in packages if "skip_reason" not in package]
    bad = [package for package in known if package.get("vulns")]
    lines = []
    for package in bad:
        for one in package["vulns"]:
            fixed = ", ".join(one.get("fix_versions") or []) or "no version"
            lines.append(f"{package['name']} {package['version']}: {one['id']}, fixed in {fixed}")
    told = f"{len(known)} of {len(packages)} packages of {lock} are known to the service"
    if not known:
        return [f"{told}, so nothing is known of them"]
    return [*lines, f"{told}, {len(bad) or 'none'} of these with known vulnerabilities"]


def _text(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace") if Path(path).exists() else ""


if __name__ == "__main__":
    for line in lines_of(_text(sys.argv[1]), _text(sys.argv[2]), *sys.argv[3:5]):
        print(f"audit: {line}")
