"""Renders the results as Markdown. bench.py measures them."""

import statistics

from memory import GOALS, ROUTES
from scenarios import SCENARIOS

NONE = "–"
ORDER = ["Sluice", "nginx", "HAProxy", "Envoy"]
CHANGE_GOAL_MS = 50.0


def cell(seen, figure, form):
    if seen is None or "none" in seen:
        return NONE
    if "failed" in seen:
        return "failed"
    return form.format(seen[figure]) if seen.get(figure) is not None else NONE


def ratio(results, scenario, proxy):
    """The ratio of Sluice to another proxy: the median over the rounds, each of which measures both within seconds."""
    ours, theirs = (
        [each["cpu_us"] for each in results["scenarios"][scenario].get(name, {}).get("rounds", [])] for name in ("Sluice", proxy))
    if not ours or len(ours) != len(theirs):
        return None
    return statistics.median(our / their for our, their in zip(ours, theirs))


def with_goal(value, most, form):
    """A value, and whether it meets its goal."""
    if value is None:
        return "not measured"
    return f"{form.format(value)}, {'met' if value <= most else 'not met'}"


def goals(results, scenario):
    """A text for each goal of a scenario."""
    for against, most in scenario.goals:
        if any(against == other.name for other in SCENARIOS):
            name = against  # in the same rounds
            label = f"≤ {name} + {round((most - 1) * 100)} %"
        else:
            name = next(name for name in ORDER if name.lower() == against)
            label = f"≤ {most} × {against}"
        yield f"{label}: {with_goal(ratio(results, scenario.name, name), most, '{:.2f}')}"


def table(head, rows):
    lines = [" | ".join(head), " | ".join(["---"] + ["---:"] * (len(head) - 1))]
    return "\n".join(f"| {line} |" for line in lines + [" | ".join(row) for row in rows])


def render(results):
    names = [name for name in ORDER if name in results["versions"]]
    measured = [s for s in SCENARIOS if s.name in results["scenarios"]]
    seen = results["scenarios"]
    out = [
        f"{results['date']}, {results['processor']}, {results['cores']} cores, Linux {results['kernel']}; "
        f"{results['rounds']} rounds of {results['seconds']} s, {results['connections']} connections; medians. "
        f"Load average at the start: {results['load_average']:.1f}.",
        "; ".join(f"{name}: {results['versions'][name]}" for name in names) + ".",
    ]
    if measured:
        def ratios(s):
            nginx = ratio(results, s.name, "nginx")
            return f"{nginx:.2f}" if nginx else NONE
        rows = [[s.title, *(cell(seen[s.name].get(n), "cpu_us", "{:.1f}") for n in names), ratios(s),
                 "; ".join(goals(results, s))] for s in measured]
        out.append("CPU µs per request (user and system):\n\n" + table(["scenario", *names, "Sluice ÷ nginx", "goals"], rows))
        rows = [[s.title, *(cell(seen[s.name].get(n), "rps", "{:,.0f}") for n in names)] for s in measured]
        out.append("Requests per second:\n\n" + table(["scenario", *names], rows))
        for s in measured:
            for name in names:
                dropped = seen[s.name].get(name, {}).get("log_lines_dropped")
                if dropped:
                    out.append(f"{name} dropped {dropped:,} lines of its access log in scenario {s.name}: it did less work than the others there.")
    if "memory" in results:
        rows = []
        for label, title in (("idle", "one route, before load"), ("routes", f"{ROUTES:,} routes, each requested")):
            row = [title]
            for name in names:
                both = results["memory"].get(name, {}).get(label)
                row.append(f"{both[0]:.1f} / {both[1]:.1f}" if both else "failed")
            ours = results["memory"].get("Sluice", {}).get(label)
            row.append(f"≤ {GOALS[label]:.0f} MB: {with_goal(ours[0] if ours else None, GOALS[label], '{:.1f}')}")
            rows.append(row)
        out.append("Memory in MB of 10^6 bytes, resident / proportional, of all processes:\n\n" + table(["state", *names, "goal"], rows))
    if "change" in results:
        ours = results["change"]["Sluice"]
        if "failed" in ours:
            out.append(f"One change among 10,000 routes under load: failed: {ours['failed']}")
        else:
            out.append(f"One change among {ours['routes']:,} routes under load, from sending the frame to the first response that uses it, "
                       f"{ours['changes']} changes: p50 {ours['p50_ms']:.1f} ms, p99 {ours['p99_ms']:.1f} ms, maximum {ours['max_ms']:.1f} ms "
                       f"(goal p99 ≤ 50 ms: {with_goal(ours['p99_ms'], CHANGE_GOAL_MS, '{:.1f}')}).")
    return "\n\n".join(out)
