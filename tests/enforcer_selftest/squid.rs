//! The proxy lab: what Squid does to a question is what the answer says.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::support::squid::{Answer, Request, SquidLab, World, ready};
use super::{complaint, fixture, with};

const WORLD: World<'static> = World {
    clients: &["192.0.2.10", "192.0.2.99", "2001:db8::10"],
    hosts: &[
        ("listed.example", "198.51.100.1"),
        ("wild.example", "198.51.100.2"),
        ("a.b.wild.example", "2001:db8:a::2"),
        ("other.example", "198.51.100.3"),
        ("notwild.example", "198.51.100.4"),
    ],
    bare: &["198.51.100.80", "198.51.100.81", "2001:db8:a::80", "2001:db8:a::81"],
    ports: &[22, 80, 443, 8443],
};
const ME: &str = "192.0.2.10";

/// What `proxy/proxy.conf` is to do.
fn table() -> Vec<(Request, bool)> {
    let (get, tls, raw) = (Request::get, Request::tls, Request::raw);
    vec![
        (get(ME, "http://listed.example/path"), true),
        (get("2001:db8::10", "http://a.b.wild.example/"), true),
        (tls(ME, "listed.example:443", Some("listed.example")), true),
        (tls(ME, "LISTED.example.:443", Some("listed.example")), true),
        (tls(ME, "a.b.wild.example:443", Some("a.b.wild.example")), true),
        (tls("2001:db8::10", "wild.example:443", Some("wild.example")), true),
        (tls(ME, "listed.example:443", None), true),
        (tls(ME, "198.51.100.80:443", None), true),
        (tls(ME, "[2001:db8:a::80]:443", None), true),
        // Not listed.
        (get(ME, "http://other.example/"), false),
        (tls(ME, "other.example:443", Some("other.example")), false),
        (tls(ME, "notwild.example:443", Some("notwild.example")), false),
        (tls(ME, "198.51.100.81:443", None), false),
        (tls(ME, "[2001:db8:a::81]:443", None), false),
        (get(ME, "http://198.51.100.81/"), false),
        // Listed, by its address.
        (tls(ME, "198.51.100.1:443", None), false),
        (get(ME, "http://198.51.100.1/"), false),
        // One name to the proxy, another inside.
        (tls(ME, "listed.example:443", Some("other.example")), false),
        (tls(ME, "other.example:443", Some("listed.example")), false),
        // Not TLS, not the port, not the client.
        (raw(ME, "listed.example:443"), false),
        (tls(ME, "listed.example:8443", Some("listed.example")), false),
        (raw(ME, "listed.example:22"), false),
        (get(ME, "http://listed.example:8443/"), false),
        (get("192.0.2.99", "http://listed.example/"), false),
        (tls("192.0.2.99", "listed.example:443", Some("listed.example")), false),
    ]
}

/// The fixture as rendered, with its paths made to fit and further changes; its configuration file.
fn stage(lab: &SquidLab, changes: &[(&str, &str)]) -> PathBuf {
    let certificate = lab.certificate();
    let paths = [("/etc/squid/harness.pem", certificate.to_str().unwrap()), ("/etc/squid/harness/", "{copy}/")];
    let file = lab.stage(&fixture("proxy"), &paths).join("proxy.conf");
    let mut text = fs::read_to_string(&file).unwrap();
    for (from, to) in changes {
        text = with(&text, from, to);
    }
    fs::write(&file, text).unwrap();
    file
}

/// Changes to the fixture (from, to), and the questions that then get through.
type Hole<'a> = (&'a [(&'a str, &'a str)], &'a [&'a str]);

/// What surprises when the fixture is changed.
fn surprises(lab: &SquidLab, changes: &[(&str, &str)]) -> Vec<String> {
    lab.start(&stage(lab, changes), 3128).unwrap().surprises(&table())
}

#[test]
fn rules_do_what_they_say() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    assert_eq!(lab.parse(&stage(&lab, &[])), Ok(()));
    let squid = lab.start(&stage(&lab, &[]), 3128).unwrap();
    assert_eq!(squid.surprises(&table()), Vec::<String>::new());
    assert!(squid.access_log().contains("TCP_DENIED"));
}

#[test]
fn holes_are_found_out() {
    if !ready() {
        return;
    }
    let holes: [Hole<'_>; 6] = [
        // Without a look at the names inside.
        (
            &[(" ssl-bump tls-cert=", " # "), ("ssl_bump ", "# ")],
            &["CONNECT listed.example:443, TLS to other.example", "CONNECT listed.example:443, no TLS"],
        ),
        // Without a last word.
        (&[("ssl_bump terminate all", "")], &["CONNECT listed.example:443, TLS to other.example"]),
        // Squid asks for the name of an address, and gets the listed one.
        (&[("dstdomain -n", "dstdomain")], &["GET http://198.51.100.1/"]),
        // What is not TLS is let through.
        (
            &[("ssl_bump terminate all", "ssl_bump terminate all\non_unsupported_protocol tunnel all")],
            &["CONNECT listed.example:443, no TLS"],
        ),
        // For everybody; on any port.
        (
            &[("http_access deny !harness_clients", "")],
            &["GET http://listed.example/", "CONNECT listed.example:443, TLS to listed.example"],
        ),
        (&[("http_access deny !harness_ports", "")], &["GET http://listed.example:8443/"]),
    ];
    let lab = SquidLab::new(&WORLD);
    for (changes, expected) in holes {
        let found = surprises(&lab, changes);
        let heads =
            found.iter().map(|line| line.split_once(": ").unwrap().1.strip_suffix(": Allowed, should be denied"));
        assert_eq!(heads.collect::<Vec<_>>(), expected.iter().copied().map(Some).collect::<Vec<_>>(), "{changes:?}");
    }
}

#[test]
fn denied_and_broken_are_two_things() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let questions: Vec<Request> = table().into_iter().filter(|(_, allow)| *allow).map(|(request, _)| request).collect();
    let ask = |to: &str| {
        let file = stage(&lab, &[("http_access deny !harness_clients", to)]);
        lab.start(&file, 3128).unwrap().ask(&questions)
    };
    for answer in ask("http_access deny all") {
        assert!(matches!(answer, Answer::Denied(_)), "{answer:?}");
    }
    // Allowed, but Squid cannot get there.
    for answer in ask("never_direct allow all") {
        assert!(matches!(answer, Answer::Broken(_)), "{answer:?}");
    }
    // And broken is a surprise, whatever was expected.
    let squid =
        lab.start(&stage(&lab, &[("http_access deny !harness_clients", "never_direct allow all")]), 3128).unwrap();
    let question = Request::get(ME, "http://listed.example/");
    assert_eq!(squid.surprises(&[(question.clone(), true), (question, false)]).len(), 2);
}

#[test]
fn questions_that_prove_nothing_are_refused() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let squid = lab.start(&stage(&lab, &[]), 3128).unwrap();
    for (question, expected) in [
        (Request::get(ME, "http://nobody.example/"), "nobody there to answer"),
        (Request::tls(ME, "198.51.100.99:443", None), "nobody there to answer"),
        (Request::tls(ME, "listed.example:9443", None), "nobody answers on that port"),
        (Request::get("192.0.2.50", "http://listed.example/"), "the lab has no such client"),
    ] {
        let said = complaint(|| drop(squid.ask(&[question])));
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn parse_complains() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let overlap = |names| format!("acl harness_more dstdomain -n {names}\nhttp_access deny all");
    for (from, to, expected) in [
        // All of these but the last two have exit code 0.
        ("hosts.txt", "missing.txt", "complains:\nERROR: Can not open file"),
        (
            "http_access deny all",
            &overlap(".sub.example a.sub.example"),
            "complains:\nWARNING: 'a.sub.example' is a subdomain",
        ),
        ("http_access deny all", "http_access deni all", "got 'deni'"),
        (
            "http_access deny all",
            &overlap("a.sub.example .sub.example"),
            "fails:\nERROR: 'a.sub.example' is a subdomain",
        ),
        ("http_access deny all", "http_acces deny all", "unrecognized: 'http_acces'"),
    ] {
        let said = lab.parse(&stage(&lab, &[(from, to)])).unwrap_err();
        assert!(said.contains(expected), "{said}");
    }
    let empty = stage(&lab, &[]);
    fs::write(empty.with_file_name("hosts.txt"), "").unwrap();
    assert!(lab.parse(&empty).unwrap_err().contains("empty ACL"));
}

#[test]
fn a_squid_that_does_not_start_says_why() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let refused = lab.start(&stage(&lab, &[("http_access deny all", "http_access deny nobody")]), 3128).err().unwrap();
    assert!(refused.starts_with("squid ended") && refused.contains("nobody"), "{refused}");
    // And is no hindrance to the next.
    assert_eq!(surprises(&lab, &[]), Vec::<String>::new());
}

#[test]
fn two_at_once_do_not_meet() {
    if !ready() {
        return;
    }
    let (one, other) = (SquidLab::new(&WORLD), SquidLab::new(&WORLD));
    let first = one.start(&stage(&one, &[]), 3128).unwrap();
    let second =
        other.start(&stage(&other, &[("http_access deny !harness_clients", "http_access deny all")]), 3128).unwrap();
    let question = [Request::get(ME, "http://listed.example/")];
    assert_eq!(first.ask(&question), [Answer::Allowed]);
    assert!(matches!(second.ask(&question)[..], [Answer::Denied(_)]));
}

#[test]
fn a_dead_squid_denies_nothing() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let squid = lab.start(&stage(&lab, &[]), 3128).unwrap();
    squid.kill();
    let said = complaint(|| drop(squid.ask(&[Request::get(ME, "http://other.example/")])));
    assert!(said.contains("squid is gone"), "{said}");
}

#[test]
fn staging_misses_nothing() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let copy = lab.stage(&fixture("proxy"), &[("listed.example", "changed.example")]);
    assert!(fs::read_to_string(copy.join("hosts.txt")).unwrap().contains("changed.example"));
    let said = complaint(|| drop(lab.stage(&fixture("proxy"), &[("/etc/nowhere", "/tmp")])));
    assert!(said.contains("\"/etc/nowhere\" is in no file"), "{said}");
}

#[test]
fn nothing_is_left() {
    if !ready() {
        return;
    }
    let lab = SquidLab::new(&WORLD);
    let dir = lab.dir().to_owned();
    // Whoever has the folder's path in its command line: the origin, Squid.
    let users = || {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|process| process.path());
        let uses = |process: &PathBuf| {
            let line = fs::read(process.join("cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(dir.to_str().unwrap())
        };
        processes.filter(uses).collect::<Vec<_>>()
    };
    let squid = lab.start(&stage(&lab, &[]), 3128).unwrap();
    let both = users();
    // What Squid puts into shared memory would outlive it, and meet the next one's.
    let squids =
        both.iter().filter(|one| fs::read_to_string(one.join("comm")).is_ok_and(|name| name.trim() == "squid"));
    let shared = |root: &str| fs::metadata(format!("{root}/dev/shm")).unwrap().dev();
    let apart: Vec<bool> = squids.map(|one| shared(&format!("{}/root", one.display())) != shared("")).collect();
    assert_eq!(apart, [true]);
    drop(squid);
    let one = users();
    drop(lab);
    assert!(both.len() > one.len() && !one.is_empty(), "{both:?}, {one:?}");
    assert_eq!(users(), Vec::<PathBuf>::new());
    assert!(!dir.exists());
}
