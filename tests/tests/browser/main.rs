//! The pages as a person sees them: in a real browser, which signs in, watches a rollout go on without
//! loading anything anew, and takes it back.
//!
//! Skipped, in words, where there is no chromedriver. With `PICTURES=DIR` it leaves pictures there.
//! `axe.js` is axe-core 4.14.1 as published (MPL-2.0): it looks for what keeps people out.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as such")]

#[path = "../common/mod.rs"]
mod common;
mod driver;

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::{all_serve, deploy_and_complete, fleet};
use driver::Browser;
use fleet_tests::cluster::{Behaviour, Cluster};
use proto::report::RolloutPhase;
use serde_json::Value;

/// Looks for what keeps people out; what it finds, by how much.
fn axe(browser: &Browser, page: &str) {
    browser.run(include_str!("axe.js"));
    let found = browser.run_async(
        "const done = arguments[0]; axe.run().then(found => done(found.violations.map(one => \
         `${one.impact} ${one.id}: ${one.nodes.map(node => node.html.slice(0, 120))}`)))",
    );
    let serious = |text: &&str| text.starts_with("serious") || text.starts_with("critical");
    let found = found.as_array().unwrap();
    let found: Vec<_> = found.iter().filter_map(Value::as_str).filter(serious).collect();
    assert!(found.is_empty(), "{page}: {found:#?}");
}

/// Light and dark, on a screen and on a phone: readable for everybody, and nothing is wider than it.
fn looks_well(browser: &Browser, page: &str) {
    for (width, dark, how) in
        [(1280, false, "light"), (1280, true, "dark"), (390, false, "phone"), (390, true, "night")]
    {
        browser.look(width, dark);
        let wide = browser.run("return document.documentElement.scrollWidth");
        assert!(wide.as_u64().unwrap() <= u64::from(width), "{page} on a {how}: {wide} wide");
        axe(browser, &format!("{page}, {how}"));
        if let Some(directory) = std::env::var_os("PICTURES") {
            let path = PathBuf::from(directory).join(format!("{page}-{how}.png"));
            std::fs::write(path, STANDARD.decode(browser.picture()).unwrap()).unwrap();
        }
    }
    browser.look(1280, false);
}

fn sign_in(browser: &Browser, cluster: &Cluster, role: &str) -> String {
    let link = cluster.swell(&["login", "--role", role]).unwrap().stdout;
    let link = String::from_utf8(link).unwrap().trim().to_owned();
    browser.open(&link);
    browser.click("main button");
    browser.wait_for("hosts heard");
    link
}

fn page_of(cluster: &Cluster, page: &str) -> String {
    format!("https://{}:7071/{page}", cluster.coordinator_address())
}

/// A session that is ended elsewhere ends here, in words, and a new one leads back to the page.
fn comes_back_where_it_was_signed_out(browser: &Browser, cluster: &Cluster) {
    browser.open(&page_of(cluster, "services/web"));
    browser.click("section.card a[href^='/rollouts/']");
    browser.wait_for("Wave 1 of 1");
    let page = browser.run("return location.pathname");
    let list = cluster.swell(&["access", "list", "--json"]).unwrap().stdout;
    let list: Value = serde_json::from_slice(&list).unwrap();
    let sessions = list.as_array().unwrap().iter().filter(|one| one["kind"] == "session");
    for session in sessions {
        cluster.swell(&["access", "revoke", session["id"].as_str().unwrap()]).unwrap();
    }
    browser.wait_for("sign in again");
    browser.click("#live a");
    browser.wait_for("Open it, or put it here");
    let link = cluster.swell(&["login"]).unwrap().stdout;
    browser.write("#link", String::from_utf8(link).unwrap().trim());
    browser.click("main button");
    browser.wait_for("Wave 1 of 1");
    assert_eq!(browser.run("return location.pathname"), page);
}

/// Whether the page is still the one that was marked: nothing was loaded anew.
fn is_the_same(browser: &Browser) -> bool {
    browser.run("return window.marked === true") == Value::Bool(true)
}

#[test]
fn a_person_signs_in_watches_a_rollout_and_takes_it_back() {
    let profile = tempfile::tempdir().unwrap();
    let Some(browser) = Browser::start(profile.path()) else {
        return eprintln!("skipped, there is no browser: chromedriver is missing");
    };
    let (_directory, mut cluster) = fleet(5);
    deploy_and_complete(&cluster, "1.0.0", 1);
    // The canary bakes while it is looked at.
    cluster.bake_minutes("0.2");

    let link = sign_in(&browser, &cluster, "operator");
    browser.wait_for("5 of 5 hosts heard");
    browser.wait_for("1.0.0");
    looks_well(&browser, "fleet");

    browser.run("window.marked = true");
    cluster.publish("2.0.0", Behaviour::Good).unwrap();
    cluster.deploy("2.0.0").unwrap();
    browser.wait_for("1.0.0 to 2.0.0");
    browser.wait_for("running");
    assert!(is_the_same(&browser), "the rollout came to the page that was open");

    browser.click("section.card a[href^='/rollouts/']");
    browser.wait_for("Wave 1 of 3");
    browser.run("window.marked = true");
    browser.wait("the canary bakes", "return document.querySelectorAll('.cells .ba').length > 0");
    looks_well(&browser, "rollout");
    browser.wait("and commits", "return document.querySelectorAll('.cells .ok').length > 0");
    assert!(is_the_same(&browser), "cells change where they stand");

    let rollout = browser.run("return location.pathname");
    let rollout = rollout.as_str().unwrap().to_owned();
    for act in ["pause", "abort"] {
        browser.open(&page_of(&cluster, &format!("{}/{act}", &rollout[1..])));
        browser.wait_for("Leave it as it is");
        looks_well(&browser, act);
    }
    browser.open(&page_of(&cluster, &rollout[1..]));

    browser.click("#acts a[href$='/roll-back']");
    browser.wait_for("5 hosts go from 2.0.0 back to 1.0.0");
    looks_well(&browser, "roll-back");
    browser.write("#reason", "it is slow");
    browser.click("button.danger");
    browser.wait_for("operator: it is slow");
    browser.wait_for("complete: 5 of 5 hosts committed");
    let report = cluster
        .wait_for_rollout("it is complete", |one| {
            one.epoch == 3 && one.phase == RolloutPhase::Complete
        })
        .unwrap();
    assert_eq!(report.author.as_str(), "coordinator", "the coordinator may sign that (R3)");
    all_serve(&cluster, "1.0.0");

    for page in ["hosts", "events", "services/web", "audit", "environments/production/freeze"] {
        browser.open(&page_of(&cluster, page));
        looks_well(&browser, &page.replace('/', "-"));
    }
    browser.open(&page_of(&cluster, "hosts"));
    browser.click("td a[href^='/hosts/']");
    browser.wait_for("To see for itself");
    looks_well(&browser, "host");
    comes_back_where_it_was_signed_out(&browser, &cluster);
    browser.click("header button");
    browser.wait_for("swell login");
    looks_well(&browser, "enter");
    browser.open(&link);
    browser.click("main button");
    browser.wait_for("the link was used");
}
