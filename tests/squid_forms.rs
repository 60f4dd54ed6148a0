//! The forms of the Squid target beside the plain proxy, with a real Squid: connections that a router turns to it,
//! TLS that it opens for single paths, the file that tells clients of it; and what is easily got wrong in its files.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(clippy::print_stdout, reason = "figures of a run")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use outgate::diagnostic::Findings;
use outgate::host::NamePattern;
use outgate::lock::Lock;
use outgate::ruleset::{self, Ruleset};
use outgate::source::Sources;
use tempfile::TempDir;

mod support;
use support::model::{self, named};
use support::question::{Answer, Request};
use support::squid::{self, ROUTER, Squid, SquidLab, World};
use support::{enforcers, netns};

const NAS: &str = "192.0.2.10";
const NAS6: &str = "2001:db8:10::10";
const ADMIN: &str = "192.0.2.20";
const STRANGER: &str = "192.0.2.99";

/// A wildcard, a site of the user's own without TLS, names with an IPv6 address, and addresses instead of names.
const MORE: &str = "extra:
  - {id: wild, purpose: Everything below a name., origin: [nas], hosts: [\"*.wild.example.org\"], ports: [443/tcp]}
  - {id: plain, purpose: A mirror without TLS., origin: [nas], hosts: [plain.example.org], ports: [80/tcp]}
  - {id: six, purpose: A server with IPv6., origin: [nas], hosts: [six.example.org], ports: [80/tcp, 443/tcp]}
  - {id: literal, purpose: Addresses of the site., origin: [nas], hosts: [203.0.113.77, \"2001:db8:77::7\"], ports: [443/tcp]}
";

/// The home lab with Squid alone, its files generated: exit code and messages.
fn generate(squid: &str) -> (TempDir, Output) {
    let folder = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/home-lab");
    let all = fs::read_to_string(example.join("outgate.yaml")).unwrap();
    let (head, _) = all.split_once("\ntargets:\n").unwrap();
    let profile = format!("{}\ntargets:\n  squid: {squid}\n", head.replace("extra:\n", MORE));
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
    fs::copy(example.join("outgate.lock"), folder.path().join("outgate.lock")).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_outgate"))
        .arg("generate")
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .env("SOURCE_DATE_EPOCH", "1795219200")
        .output()
        .unwrap();
    (folder, output)
}

/// The same, with the model's own rules.
fn site(squid: &str) -> (TempDir, Ruleset) {
    let (folder, output) = generate(squid);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
    let policy = model::policy(&model::catalog(), &read("outgate.yaml")).unwrap();
    let mut sources = Sources::default();
    let id = sources.add("outgate.lock", read("outgate.lock"));
    let lock = Lock::parse(&sources, id).unwrap();
    let mut findings = Findings::default();
    let rules = ruleset::build(&policy, Some(&lock), &mut findings);
    assert!(!findings.has_errors());
    (folder, rules)
}

/// Every name of the rules, one below it, one that ends like it, one that it is only a part of.
fn names(rules: &Ruleset) -> Vec<String> {
    let mut names: BTreeSet<String> = BTreeSet::new();
    for pattern in rules.rules.iter().flat_map(|rule| rule.names()) {
        let (NamePattern::Exact(host) | NamePattern::Below(host)) = pattern;
        names.extend([host.to_string(), format!("a.b.{host}"), format!("x{host}"), format!("{host}.evil.example")]);
    }
    assert!((60..600).contains(&names.len()), "{} names", names.len());
    names.into_iter().collect()
}

/// Names with an address each: IPv6 for those of `six.example.org`.
fn hosts(names: &[String]) -> Vec<(String, String)> {
    let address = |name: &str, i: usize| match name {
        "six.example.org" => "2001:db8:77::6".to_owned(),
        _ => format!("198.18.{}.{}", i / 250, 1 + i % 250),
    };
    names.iter().enumerate().map(|(i, name)| (name.clone(), address(name, i))).collect()
}

fn pairs(hosts: &[(String, String)]) -> Vec<(&str, &str)> {
    hosts.iter().map(|(name, at)| (name.as_str(), at.as_str())).collect()
}

/// The rendered files in the lab, their paths those of the lab.
fn stage(lab: &SquidLab, folder: &TempDir, certificate: (&str, &Path)) -> PathBuf {
    let (from, to) = certificate;
    let rendered = lab.stage(
        &folder.path().join("out/squid"),
        &[(from, to.to_str().unwrap()), ("/etc/squid/outgate/", "{copy}/lists/")],
    );
    let file = rendered.join("outgate.conf");
    lab.parse(&file).unwrap();
    file
}

fn judge(squid: &Squid<'_>, expected: &[(Request, bool)]) {
    let passing = expected.iter().filter(|(_, pass)| *pass).count();
    assert!(passing > 5 && expected.len() - passing > 5, "{passing} of {} pass: that tells nothing", expected.len());
    let surprises = squid.surprises(expected);
    assert!(surprises.is_empty(), "{} of {}:\n{}", surprises.len(), expected.len(), surprises.join("\n"));
    println!("{} requests, {passing} of them pass, no disagreement", expected.len());
}

/// As the head of the file says it, and carelessly more: ports that are neither HTTP nor TLS are turned as well.
const TURNED: &str = "table inet turned {
    chain prerouting {
        type nat hook prerouting priority dstnat
        iifname lan0 tcp dport { 80, 8080 } redirect to :3129
        iifname lan0 tcp dport { 443, 8443 } redirect to :3130
    }
}
";

fn at(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[test]
fn what_a_router_turns_to_squid_gets_out_as_the_model_says() {
    if !(squid::ready() && netns::ready()) {
        return;
    }
    let (folder, rules) = site("{intercept: {}}");
    let names = names(&rules);
    let hosts = hosts(&names);
    let find = |name: &str| hosts.iter().find(|(n, _)| n == name).map(|(_, at)| at.as_str()).unwrap();
    let lab = SquidLab::routed(
        &World {
            clients: &[NAS, NAS6, ADMIN, STRANGER],
            hosts: &pairs(&hosts),
            bare: &["203.0.113.77", "2001:db8:77::7", "203.0.113.78", "2001:db8:77::8"],
            ports: &[80, 443, 8080, 8443],
        },
        TURNED,
    );
    let file = stage(&lab, &folder, ("/etc/squid/outgate.pem", &lab.certificate()));
    let mut expected = Vec::new();
    for (name, address) in &hosts {
        let (http, tls) = (at(address, 80), at(address, 443));
        let clients: &[&str] = if address.contains(':') { &[NAS6] } else { &[NAS, ADMIN, STRANGER] };
        for client in clients {
            expected.push((Request::turned_tls(client, &tls, Some(name)), named(&rules, client, name, 443)));
            expected.push((Request::turned_get(client, &http, "/", name), named(&rules, client, name, 80)));
        }
        let client = clients[0];
        let upper = format!("{}.", name.to_uppercase());
        expected.push((Request::turned_get(client, &http, "/", &upper), named(&rules, client, name, 80)));
        expected.push((Request::turned_tls(client, &tls, None), false));
        expected.push((Request::turned_raw(client, &tls), false));
        // Ports that Squid does not carry, and a name that says so itself.
        expected.push((Request::turned_tls(client, &at(address, 8443), Some(name)), false));
        expected.push((Request::turned_get(client, &at(address, 8080), "/", name), false));
        expected.push((Request::turned_get(client, &http, "/", &format!("{name}:8080")), false));
        // An allowed name on the way to somebody else, and somebody else's name on the way to an allowed one.
        if !address.contains(':') && !named(&rules, NAS, name, 443) && !named(&rules, NAS, name, 80) {
            let (github, plain) = (find("github.com"), find("plain.example.org"));
            expected.push((Request::turned_tls(NAS, &tls, Some("github.com")), false));
            expected.push((Request::turned_tls(NAS, &at(github, 443), Some(name)), false));
            expected.push((Request::turned_get(NAS, &http, "/", "plain.example.org"), false));
            expected.push((Request::turned_get(NAS, &http, "http://plain.example.org/", name), false));
            expected.push((
                Request::turned_get(NAS, &at(plain, 80), &format!("http://{name}/"), "plain.example.org"),
                false,
            ));
        }
    }
    let plain = at(find("plain.example.org"), 80);
    expected.push((Request::turned_get(NAS, &plain, "http://plain.example.org/", "plain.example.org"), true));
    expected.push((Request::turned_get(NAS, &plain, "http://plain.example.org:8080/", "plain.example.org"), false));
    expected.push((Request::turned_get(NAS, &plain, "/", find("plain.example.org")), false));
    // Addresses: the site's own, without a name or with one that no rule has.
    for (client, own, other) in [(NAS, "203.0.113.77", "203.0.113.78"), (NAS6, "2001:db8:77::7", "2001:db8:77::8")] {
        expected.push((Request::turned_tls(client, &at(own, 443), None), true));
        expected.push((Request::turned_tls(client, &at(own, 443), Some("xgithub.com")), false));
        expected.push((Request::turned_tls(client, &at(other, 443), None), false));
        expected.push((Request::turned_get(client, &at(own, 80), "/", &at(own, 80)), false));
        expected.push((Request::turned_get(client, &at(other, 80), "/", &at(other, 80)), false));
    }
    expected.push((Request::turned_tls(ADMIN, "203.0.113.77:443", None), false));
    // The ports themselves, with nobody who turned anything.
    for router in ROUTER {
        let client = if router.contains(':') { NAS6 } else { NAS };
        expected.push((Request::turned_get(client, &at(router, 3129), "/", "plain.example.org"), false));
        expected.push((Request::turned_tls(client, &at(router, 3130), Some("github.com")), false));
    }
    // Clients that know the proxy are still served.
    expected.push((Request::tls(NAS, "github.com:443", Some("github.com")), true));
    expected.push((Request::tls(NAS, "xgithub.com:443", Some("github.com")), false));
    expected.push((Request::get(NAS, "http://plain.example.org/"), true));

    let squid = lab.start(&file, 3128).unwrap();
    judge(&squid, &expected);
    // A status is no verdict: Squid writes 500 for TLS that it passed through.
    assert!(squid.access_log().contains("TCP_TUNNEL/"), "{}", squid.access_log());
    drop(squid);

    // What is needed is needed: without the guard of the ports, and without the check that Host and address belong
    // together, plain HTTP gets out.
    let loose = spoiled(&file, "http_access deny outgate_caught_http !outgate_to_http\n", "");
    let elsewhere = Request::turned_get(NAS, &at(find("plain.example.org"), 8080), "/", "plain.example.org");
    assert_eq!(lab.start(&loose, 3128).unwrap().ask(&[elsewhere]), [Answer::Allowed]);
    let loose = spoiled(&file, "host_verify_strict on\nclient_dst_passthru off", "host_verify_strict off");
    let fronted = Request::turned_get(NAS, &at(find("xgithub.com"), 80), "/", "plain.example.org");
    assert_eq!(lab.start(&loose, 3128).unwrap().ask(&[fronted]), [Answer::Allowed]);
}

/// What is asked for inside TLS to an opened host, and whether it gets out: method, target, Host.
const INSIDE: &[(&str, &str, &str, bool)] = &[
    ("GET", "/truenas/x", "github.com", true),
    ("GET", "/truenas/", "github.com", true),
    ("GET", "/freenas/a/b.c-d_e", "github.com", true),
    ("GET", "/truenas/x?y=1&z=a/b", "github.com", true),
    ("GET", "/truenas/x%20y", "github.com", false),
    ("GET", "https://github.com/truenas/x", "github.com", true),
    ("POST", "/truenas/x", "github.com", true),
    ("PUT", "/truenas/x", "github.com", false),
    ("DELETE", "/truenas/x", "github.com", false),
    ("OPTIONS", "/truenas/x", "github.com", false),
    ("PROPFIND", "/truenas/x", "github.com", false),
    ("CONNECT", "github.com:443", "github.com:443", false),
    ("CONNECT", "quay.io:443", "quay.io:443", false),
    ("GET", "/", "github.com", false),
    ("GET", "/other/", "github.com", false),
    ("GET", "/truenas", "github.com", false),
    ("GET", "/truenasx/", "github.com", false),
    ("GET", "/TrueNAS/x", "github.com", false),
    ("GET", "/x/truenas/", "github.com", false),
    ("GET", "/?/truenas/", "github.com", false),
    ("GET", "//truenas/x", "github.com", false),
    ("GET", "/./truenas/x", "github.com", false),
    ("GET", "/truenas//x", "github.com", false),
    ("GET", "/truenas/../other/", "github.com", false),
    ("GET", "/truenas/..", "github.com", false),
    ("GET", "/truenas/./x", "github.com", false),
    ("GET", "/truenas/..;/other/", "github.com", false),
    ("GET", "/truenas/x#/../../other", "github.com", false),
    ("GET", "/truenas/..%2fother/", "github.com", false),
    ("GET", "/truenas/%2e%2e/other/", "github.com", false),
    ("GET", "/truenas/%2E./other/", "github.com", false),
    ("GET", "/truenas/%252e%252e/other/", "github.com", false),
    ("GET", "/truenas/a%3F/../../other/", "github.com", false),
    ("GET", "/truenas/..\\other/", "github.com", false),
    ("GET", "/truenas/x%5c..%5cy", "github.com", false),
    ("GET", "/truenas/%00", "github.com", false),
    ("GET", "/%74ruenas/x", "github.com", false),
    ("GET", "/truenas%2Fx", "github.com", false),
    ("GET", "/truenas%2fx/truenas/", "github.com", false),
    ("GET", "https://github.com/other/", "github.com", false),
    ("GET", "https://github.com:8443/truenas/x", "github.com", false),
    // Another host in the same TLS: opened, with paths of its own; let out as a whole, but not from here; not let out.
    ("GET", "/v2/truenas/x", "ghcr.io", true),
    ("GET", "/truenas/x", "ghcr.io", false),
    ("GET", "/truenas/x", "quay.io", false),
    ("GET", "/truenas/x", "xgithub.com", false),
    ("GET", "https://xgithub.com/truenas/x", "github.com", false),
];

#[test]
fn of_an_opened_host_only_the_paths_get_out() {
    if !(squid::ready() && netns::ready()) {
        return;
    }
    let (folder, rules) =
        site("{intercept: {}, decrypt: {paths: [github.com/truenas/, github.com/freenas/, ghcr.io/v2/truenas/]}}");
    let names = names(&rules);
    let hosts = hosts(&names);
    let find = |name: &str| hosts.iter().find(|(n, _)| n == name).map(|(_, at)| at.as_str()).unwrap();
    let lab = SquidLab::routed(
        &World {
            clients: &[NAS, NAS6, ADMIN, STRANGER],
            hosts: &pairs(&hosts),
            bare: &["203.0.113.77"],
            ports: &[80, 443],
        },
        TURNED,
    );
    let file = stage(&lab, &folder, ("/etc/squid/outgate-ca.pem", &lab.authority()));
    let github = at(find("github.com"), 443);
    let mut expected = Vec::new();
    for &(method, target, host, pass) in INSIDE {
        let asked = [method, target, host];
        expected.push((Request::inside(NAS, "github.com:443", "github.com", asked), pass));
        // On the way to one address another host's name is a conflict.
        let turned = pass && host == "github.com";
        expected.push((Request::turned_inside(NAS, &github, "github.com", asked), turned));
        if pass {
            expected.push((Request::inside(ADMIN, "github.com:443", "github.com", asked), false));
            expected.push((Request::turned_inside(STRANGER, &github, "github.com", asked), false));
        }
    }
    // The other name only inside, the opened one only outside: what is opened cannot be had unopened.
    expected.push((Request::tls(NAS, "github.com:443", Some("quay.io")), false));
    expected.push((Request::tls(NAS, "github.com:443", Some("xgithub.com")), false));
    expected.push((Request::turned_tls(NAS, &github, Some("quay.io")), false));
    expected.push((Request::turned_tls(NAS, &github, None), false));
    // In the clear the proxy fetches nothing from it.
    expected.push((Request::get(NAS, "http://github.com/truenas/x"), false));
    // All other hosts are as they were without it.
    for name in names.iter().filter(|name| !["github.com", "ghcr.io"].contains(&name.as_str())) {
        expected.push((Request::tls(NAS, &format!("{name}:443"), Some(name)), named(&rules, NAS, name, 443)));
        expected.push((Request::get(NAS, &format!("http://{name}/")), named(&rules, NAS, name, 80)));
    }
    let squid = lab.start(&file, 3128).unwrap();
    judge(&squid, &expected);
    drop(squid);

    // What is needed is needed.
    let asked = |target: &str| Request::inside(NAS, "github.com:443", "github.com", ["GET", target, "github.com"]);
    for (line, opens) in [
        ("http_access deny outgate_inside outgate_doubtful\n", asked("/truenas/../other/")),
        (" outgate_head_9 outgate_paths_2_9", asked("/other/")),
        ("ssl_bump terminate outgate_step2 outgate_opened\n", Request::tls(NAS, "github.com:443", Some("quay.io"))),
    ] {
        let squid = lab.start(&spoiled(&file, line, ""), 3128).unwrap();
        assert_eq!(squid.ask(&[opens]), [Answer::Allowed], "{line}");
    }
}

#[test]
fn an_origin_that_cannot_prove_its_name_is_not_reached() {
    if !squid::ready() {
        return;
    }
    let (folder, _) = site("{decrypt: {paths: [wrong.wild.example.org/truenas/, a.wild.example.org/truenas/]}}");
    let lab = SquidLab::new(&World {
        clients: &[NAS],
        hosts: &[("wrong.wild.example.org", "198.18.0.1"), ("a.wild.example.org", "198.18.0.2")],
        bare: &[],
        ports: &[443],
    });
    let file = stage(&lab, &folder, ("/etc/squid/outgate-ca.pem", &lab.authority()));
    let squid = lab.start(&file, 3128).unwrap();
    let asked = |host: &str| Request::inside(NAS, &format!("{host}:443"), host, ["GET", "/truenas/x", host]);
    let answers = squid.ask(&[asked("a.wild.example.org"), asked("wrong.wild.example.org")]);
    assert_eq!(answers[0], Answer::Allowed);
    assert!(
        matches!(&answers[1], Answer::Broken(why) if why.contains("CERTIFICATE") || why.contains("CONNECT_FAIL")),
        "{answers:?}"
    );
}

#[test]
fn a_path_narrows_and_never_opens() {
    let refused = |squid: &str| {
        let (folder, output) = generate(squid);
        assert_eq!(output.status.code(), Some(2), "{squid}");
        assert!(!folder.path().join("out").exists());
        String::from_utf8(output.stderr).unwrap()
    };
    // Nowhere in the rules; denied; only without TLS; only for others' wildcard.
    for host in ["www.github.com", "plain.example.org", "wild.example.org", "usage.truenas.com"] {
        let said = refused(&format!("{{decrypt: {{paths: [{host}/truenas/]}}}}"));
        assert!(said.contains("E020") && said.contains(&format!("no rule lets `{host}` out on 443/tcp")), "{said}");
        assert!(said.contains(&format!("{host}/truenas/")), "no place: {said}");
    }
}

/// What a client's own engine makes of the file: the answers to these hosts.
fn proxies(file: &Path, hosts: &[&str]) -> Vec<String> {
    // As clients have it, of the functions that the file may use; a name that is asked of DNS would be told.
    let script = r#"
        const vm = require("vm"), fs = require("fs");
        const number = text => text.split(".").reduce((all, part) => all * 256 + Number(part), 0);
        const isInNet = (host, net, mask) => {
            if (!/^[0-9.]+$/.test(host)) throw new Error("asks DNS for " + host);
            return (number(host) & number(mask)) === (number(net) & number(mask));
        };
        const box = vm.createContext({isInNet});
        vm.runInContext(fs.readFileSync(process.argv[1], "utf8"), box);
        for (const host of process.argv.slice(2)) console.log(box.FindProxyForURL("https://" + host + "/", host));
    "#;
    let node = enforcers::find("node").unwrap();
    let output = Command::new(node).args(["-e", script]).arg(file).args(hosts).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_browser_is_told_of_the_proxy_and_decides_nothing() {
    if !enforcers::require("node") {
        return;
    }
    let (folder, rules) = site("{port: 8118, pac: Proxy.Example.org}");
    let file = folder.path().join("out/squid/outgate.pac");
    let own = [
        "localhost",
        "127.0.0.1",
        "::1",
        "[::1]",
        "nas",
        "MAIL.example.org.",
        "mail.example.org",
        "192.0.2.53",
        "[2001:db8:10::53]",
    ];
    assert_eq!(proxies(&file, &own), ["DIRECT"; 9]);
    // All else, allowed, denied or unheard of, is the proxy's to judge.
    let names = names(&rules);
    let local = ["mail.example.org", "ntp.example.org", "syslog.example.org"];
    let mut rest: Vec<&str> = names.iter().map(String::as_str).filter(|name| !local.contains(name)).collect();
    rest.extend(["192.0.2.54", "[2001:db8:10::54]", "xmail.example.org", "mail.example.org.evil.example"]);
    assert!(rest.len() > 60);
    let told: BTreeSet<String> = proxies(&file, &rest).into_iter().collect();
    assert_eq!(told, ["PROXY proxy.example.org:8118".to_owned()].into());
    println!("{} hosts", own.len() + rest.len());

    let (folder, _) = site("{}");
    assert!(!folder.path().join("out/squid/outgate.pac").exists(), "without a name there is nothing to tell");
}

/// A configuration of the test's own around the lines that a trap is about.
fn trap(lab: &SquidLab, name: &str, lines: &str) -> PathBuf {
    let file = lab.dir().join(name);
    let port =
        format!("http_port 3128 ssl-bump tls-cert={} generate-host-certificates=off", lab.certificate().display());
    fs::write(&file, format!("{port}\n{lines}\non_unsupported_protocol respond all\n")).unwrap();
    file
}

/// The rules of the site with a text exchanged, as somebody's hand may do it.
fn spoiled(file: &Path, from: &str, to: &str) -> PathBuf {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "there is no {from:?} to spoil");
    let other = file.with_file_name("spoiled.conf");
    fs::write(&other, text.replace(from, to)).unwrap();
    other
}

#[test]
fn what_is_easily_got_wrong_is_got_right() {
    if !squid::ready() {
        return;
    }
    let (folder, rules) = site("{}");
    let names = names(&rules);
    let hosts = hosts(&names);
    let github = hosts.iter().find(|(n, _)| n == "github.com").map(|(_, at)| at.clone()).unwrap();
    let lab = SquidLab::new(&World {
        clients: &[NAS],
        hosts: &pairs(&hosts),
        bare: &["203.0.113.77", "2001:db8:77::7"],
        ports: &[22, 80, 443],
    });
    let file = stage(&lab, &folder, ("/etc/squid/outgate.pem", &lab.certificate()));
    let allowed = Request::tls(NAS, "github.com:443", Some("github.com"));
    let fronting = Request::tls(NAS, "github.com:443", Some("xgithub.com"));
    let raw = Request::tls(NAS, &format!("{github}:443"), Some("github.com"));
    let not_tls = Request::raw(NAS, "github.com:443");
    let by_address = Request::tls(NAS, "[2001:db8:77::7]:443", None);
    let questions = [allowed.clone(), fronting, raw.clone(), not_tls, by_address.clone()];
    let got = |file: &Path| -> Vec<bool> {
        let squid = lab.start(file, 3128).unwrap();
        squid.ask(&questions).iter().map(|answer| *answer == Answer::Allowed).collect()
    };
    let right = [true, false, false, false, true];
    assert_eq!(got(&file), right);

    // 1. Without -n an address is asked for its name: the hosts file answers for this one. It takes the guard against
    // addresses and -n of the list to fall.
    let reverse = spoiled(&file, "dstdomain -n", "dstdomain");
    fs::write(&reverse, fs::read_to_string(&reverse).unwrap().replace("http_access deny outgate_literal\n", ""))
        .unwrap();
    assert_eq!(got(&reverse), [true, false, true, false, true]);
    // 2. Peeking once more before the end: the origin speaks TLS 1.3, whose certificate is not seen, and Squid passes it.
    let peek = spoiled(&file, "ssl_bump terminate all", "ssl_bump peek all\nssl_bump terminate all");
    // Without certificates of its own such a peek fails for every host (6): shut, not open.
    assert!(!got(&peek)[1]);
    // 3. No end: what matches nothing is passed.
    assert_eq!(got(&spoiled(&file, "ssl_bump terminate all\n", "")), [true, true, false, false, true]);
    // 4. Tunnelling what is no TLS takes it past a guard of ports that looks at CONNECT alone: ours looks at the rest too.
    let tunnel = spoiled(&file, "on_unsupported_protocol respond", "on_unsupported_protocol tunnel");
    assert_eq!(got(&tunnel), right);
    // 7. An IPv6 address in a list of names matches nothing; `dst` does.
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("_ip dst 2001:db8:77::7\n") && !text.contains("dst ["));
    // 10. A list that is not there: a line among others, exit code 0, and nothing gets out that it held.
    let list = file.with_file_name("lists").join("allow_nas_tls.txt");
    let held = fs::read(&list).unwrap();
    fs::remove_file(&list).unwrap();
    let said = lab.parse(&file).unwrap_err();
    assert!(said.contains("complains") && said.contains("allow_nas_tls.txt"), "{said}");
    assert_eq!(got(&file), [false, false, false, false, true]);
    // 9. A byte order mark loses the first line, a comment here, and no name; the ends of lines of another system lose none.
    assert!(held.starts_with(b"# "), "the first line is not a comment");
    for changed in [
        [b"\xef\xbb\xbf".as_slice(), &held].concat(),
        String::from_utf8(held.clone()).unwrap().replace('\n', "\r\n").into_bytes(),
    ] {
        fs::write(&list, changed).unwrap();
        assert_eq!(got(&file), right);
    }
    fs::write(&list, held).unwrap();
    // 5. A status is no verdict: of a denied CONNECT the log and the client say 200, of one that got through 500 or 200.
    let squid = lab.start(&file, 3128).unwrap();
    let denied = Request::tls(NAS, "xgithub.com:443", Some("xgithub.com"));
    let answers = squid.ask(&[allowed, denied]);
    assert!(matches!(answers[..], [Answer::Allowed, Answer::Denied(_)]), "{answers:?}");
    let log = squid.access_log();
    assert!(log.contains("TCP_DENIED/200") && log.contains("CONNECT xgithub.com:443"), "{log}");
    assert!(log.lines().any(|line| line.contains("TCP_TUNNEL/") && line.contains("CONNECT github.com:443")), "{log}");
}

#[test]
fn names_that_cover_each_other_never_stand_together() {
    if !squid::ready() {
        return;
    }
    // 8. Both orders are complaints, one of them the end of Squid: so the generator prunes.
    let lab =
        SquidLab::new(&World { clients: &[NAS], hosts: &[("a.example.org", "198.18.0.1")], bare: &[], ports: &[443] });
    for (order, fatal) in [(".example.org www.example.org", false), ("www.example.org .example.org", true)] {
        let complaint = lab.parse(&trap(&lab, "overlap.conf", &format!("acl x dstdomain -n {order}"))).unwrap_err();
        assert_eq!(complaint.contains("fails"), fatal, "{order}: {complaint}");
    }
    // 12. A dot takes the name itself, at every depth.
    let dot = "acl x dstdomain -n .example.org\nacl y ssl::server_name --client-requested .example.org\n\
               acl one at_step SslBump1\nhttp_access allow x\nssl_bump peek one\nssl_bump splice y\nssl_bump terminate all";
    let file = trap(&lab, "dot.conf", dot);
    lab.parse(&file).unwrap();
    let squid = lab.start(&file, 3128).unwrap();
    assert_eq!(squid.ask(&[Request::tls(NAS, "a.example.org:443", Some("a.example.org"))]), [Answer::Allowed]);
    drop(squid);
    // 11. Names of lists stay below the 63 characters there are, however many kinds of clients share one.
    let folder = tempfile::tempdir().unwrap();
    let profile = "release: \"13.3\"\nclients: {nas: [192.0.2.10], admin: [192.0.2.20], jails: [192.0.2.30], apps: [192.0.2.40]}\n\
                   features: []\nextra:\n  - {id: all, purpose: For all., origin: [nas, browser, jail, app], ports: [443/tcp], \
                   hosts: [\"*.example.org\", www.example.org, a.b.example.org, \"*.b.example.org\", example.net, \"*.example.net\"]}\n\
                   targets: {squid: {}}\n";
    fs::write(folder.path().join("outgate.yaml"), profile).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_outgate")).arg("generate").current_dir(folder.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(folder.path().join("out/squid/outgate.conf")).unwrap();
    let longest = text.lines().filter_map(|line| line.strip_prefix("acl ")?.split(' ').next()).map(str::len).max();
    assert!((30..64).contains(&longest.unwrap()), "{longest:?}");
    let list = fs::read_to_string(folder.path().join("out/squid/lists/allow_nas_admin_jails_apps_tls.txt")).unwrap();
    assert_eq!(
        list.lines().filter(|line| line.contains("example.") && !line.starts_with('#')).collect::<Vec<_>>(),
        [".example.net", ".example.org"]
    );
    let file = stage(&lab, &folder, ("/etc/squid/outgate.pem", &lab.certificate()));
    lab.parse(&file).unwrap();
}
