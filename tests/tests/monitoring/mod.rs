//! What is given to those who run Prometheus and Grafana: it asks for what there is, and promtool, where
//! that is installed, has no complaint.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fleet_tests::cluster::{Cluster, wait_until};

use crate::common::{all_are_heard, deploy_and_complete, fleet};

fn monitoring() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("scripts/monitoring")
}

/// Names of metrics in a text that has others' names in it, too.
fn names_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("swell_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Every expression of the dashboard.
fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(|expr| Some(expr.as_str()?.to_owned())));
            fields.values().for_each(|value| expressions(value, found));
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| expressions(value, found));
        }
        _ => {}
    }
}

fn page(address: Ipv4Addr, port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(body.to_owned())
}

/// Runs promtool on what is given, if it is installed. Whether it is.
fn promtool(arguments: &[&str], input: &str) -> bool {
    let started = Command::new("promtool")
        .args(arguments)
        .current_dir(monitoring())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut tool) = started else { return false };
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = tool.wait_with_output().unwrap();
    assert!(output.status.success(), "promtool {arguments:?}: {output:?}");
    true
}

/// A coordinator and an agent that have pages, started anew.
fn with_pages(cluster: &mut Cluster, directory: &Path) {
    let add = |path: PathBuf, address: Ipv4Addr, port: u16| {
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("metrics = \"{address}:{port}\"\n{config}")).unwrap();
    };
    let config = cluster.operator_dir().join("coordinator/coordinator.toml");
    add(config, cluster.coordinator_address(), 7073);
    add(directory.join("host-1/agent.toml"), cluster.agents()[0].address, 7072);
    cluster.kill_coordinator().unwrap();
    cluster.kill_agent(0).unwrap();
    cluster.start_coordinator().unwrap();
    cluster.start_agent(0).unwrap();
    all_are_heard(cluster);
}

#[test]
fn alerts_and_dashboard_ask_for_what_is_on_the_pages() {
    let (directory, mut cluster) = fleet(1);
    with_pages(&mut cluster, directory.path());
    deploy_and_complete(&cluster, "1.0.0", 1);
    let coordinator = wait_until("the record is verified", || {
        let page = page(cluster.coordinator_address(), 7073)?;
        Ok(page.contains("swell_audit_verified 1\n").then_some(page))
    })
    .unwrap();
    let agent = page(cluster.agents()[0].address, 7072).unwrap();
    let complete = "swell_rollout_phase{service=\"web\",env=\"production\",phase=\"complete\"} 1\n";
    assert!(coordinator.contains(complete), "{coordinator}");
    assert!(coordinator.contains("swell_hosts{state=\"alive\"} 1\n"), "{coordinator}");

    let read = |name: &str| std::fs::read_to_string(monitoring().join(name)).unwrap();
    let (alerts, dashboard) = (read("alerts.yml"), read("grafana.json"));
    let mut asked = Vec::new();
    expressions(&serde_json::from_str(&dashboard).unwrap(), &mut asked);
    assert!(asked.len() > 20, "{asked:#?}");
    let there = |name: &String| {
        [&coordinator, &agent].iter().any(|page| page.contains(&format!("# TYPE {name} ")))
    };
    for name in names_in(&alerts).union(&names_in(&asked.join("\n"))) {
        assert!(there(name), "{name} is on no page");
    }

    for page in [&coordinator, &agent] {
        promtool(&["check", "metrics"], page);
    }
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts.test.yml"], "");
    promtool(&["check", "config", "prometheus.yml"], "");
    // As rules, since that is what it can read.
    let rules: Vec<_> = asked
        .iter()
        .map(|expr| expr.replace("$__rate_interval", "5m"))
        .map(|expr| serde_json::json!({ "record": "x:y", "expr": expr }))
        .collect();
    let rules = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let file = directory.path().join("dashboard.yml");
    std::fs::write(&file, rules.to_string()).unwrap();
    promtool(&["check", "rules", "--lint=none", &file.display().to_string()], "");
}
