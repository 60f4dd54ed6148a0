//! The resolver against name servers that misbehave, and against a real one. Traffic stays on loopback.
//!
//! Three things hold for every behaviour: the run ends in time, nothing panics, and no address comes from anything but
//! a whole answer to the question that was asked.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use outgate::host::Query;
use outgate::resolve::dns::{Dns, Server, Settings, Upstream};
use outgate::resolve::{Failure, Heard, RecordType, Reply, Resolve};
use support::nameserver::{Behaviour, Nameserver};
use support::nsd::Nsd;

const NAME: &str = "asked.example.org";

/// For what should be answered: long enough for a busy machine.
const PATIENT: Settings =
    Settings { timeout: Duration::from_secs(3), concurrency: 64, budget: Duration::from_secs(20), ..Settings::DEFAULT };
/// For what is met with silence.
const QUICK: Settings = Settings {
    timeout: Duration::from_millis(250),
    concurrency: 64,
    budget: Duration::from_secs(10),
    ..Settings::DEFAULT
};

/// Questions that are sent to a server before it is known to be there.
const AT_ONCE: usize = 128;

/// What one upstream said in one round, by name.
type Replies = BTreeMap<Query, Reply>;

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|ip| ip.parse().expect("an address")).collect()
}

fn v4() -> Vec<IpAddr> {
    ips(&["192.0.2.1", "192.0.2.2", "192.0.2.3"])
}

fn both() -> Vec<IpAddr> {
    ips(&["192.0.2.1", "192.0.2.2", "2001:db8::1"])
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| (*name).to_owned()).collect()
}

fn query(name: &str) -> Query {
    Query::parse(name).expect("a name")
}

fn queries(list: &[&str]) -> BTreeSet<Query> {
    list.iter().map(|name| query(name)).collect()
}

fn chain(answer: &Reply) -> Vec<&str> {
    answer.chain.iter().map(|link| link.host.as_str()).collect()
}

fn failures(a: Failure, aaaa: Failure) -> BTreeMap<RecordType, Failure> {
    BTreeMap::from([(RecordType::A, a), (RecordType::Aaaa, aaaa)])
}

/// Asks these servers as one list; fails when it takes longer than anything here may.
fn resolve(servers: &[&Nameserver], settings: Settings, list: &[&str]) -> Replies {
    let begun = Instant::now();
    let heard = list_of(servers).with_settings(settings).resolve(&queries(list), &|_, _| {}).expect("a living server");
    assert!(
        begun.elapsed() < Duration::from_secs(8),
        "took {:?} {:?} {heard:?}",
        begun.elapsed(),
        settings.concurrency
    );
    replies(heard)
}

/// One upstream of these servers.
fn list_of(servers: &[&Nameserver]) -> Dns {
    Dns::with_upstreams([Upstream::new(servers.iter().map(|server| Server::plain(server.addr)))])
}

/// What was said where there is one upstream and one round.
fn replies(heard: Heard) -> Replies {
    let one = |(query, mut replies): (Query, Vec<Reply>)| {
        assert_eq!(replies.len(), 1, "{query}");
        Some((query, replies.pop()?))
    };
    heard.replies.into_iter().filter_map(one).collect()
}

fn addresses(reply: &Reply) -> BTreeSet<IpAddr> {
    reply.addresses.keys().copied().collect()
}

fn one(server: &Nameserver, settings: Settings) -> Reply {
    resolve(&[server], settings, &[NAME]).remove(&query(NAME)).expect("every name has an answer")
}

/// A server with one name, and what came of it.
fn ask(behaviour: Behaviour, settings: Settings) -> (Reply, Nameserver) {
    let server = Nameserver::start(&[(NAME, behaviour)]);
    (one(&server, settings), server)
}

/// The behaviour gives this failure for both families, and nothing else.
fn fails(behaviour: Behaviour, settings: Settings, failure: Failure) -> (Reply, Nameserver) {
    let (answer, server) = ask(behaviour, settings);
    assert_eq!(answer.failures, failures(failure, failure));
    assert_eq!(addresses(&answer), BTreeSet::new(), "a failure must not give addresses");
    (answer, server)
}

/// The behaviour gives exactly these addresses.
fn gives(behaviour: Behaviour, settings: Settings, expected: Vec<IpAddr>) -> (Reply, Nameserver) {
    let (answer, server) = ask(behaviour, settings);
    assert_eq!(addresses(&answer), expected.into_iter().collect());
    assert_eq!(answer.failures, BTreeMap::new());
    assert_eq!(*answer.by, BTreeSet::from([server.addr.to_string()]));
    (answer, server)
}

// Good answers.

#[test]
fn both_families_are_asked_once_each() {
    let (answer, server) = gives(Behaviour::Answer(both()), PATIENT, both());
    assert!(answer.chain.is_empty());
    assert_eq!((server.count(NAME, "A", "udp"), server.count(NAME, "AAAA", "udp")), (1, 1));
    assert_eq!(server.total(), 2, "no search list, no retries, nothing over TCP");
}

#[test]
fn one_family_is_no_failure() {
    gives(Behaviour::Answer(v4()), PATIENT, v4());
    gives(Behaviour::Answer(ips(&["2001:db8::7"])), PATIENT, ips(&["2001:db8::7"]));
}

#[test]
fn a_time_to_live_of_zero_is_an_answer() {
    gives(Behaviour::ZeroTtl(both()), PATIENT, both());
}

#[test]
fn a_chain_is_recorded_in_order() {
    let links = names(&["one.example.net", "two.example.com", "end.example.net"]);
    let (answer, _server) = gives(Behaviour::Chain(links, both()), PATIENT, both());
    assert_eq!(chain(&answer), ["one.example.net", "two.example.com", "end.example.net"]);
}

#[test]
fn the_order_of_records_does_not_matter() {
    let (answer, _server) =
        gives(Behaviour::Backwards(names(&["one.example.net", "two.example.com"]), both()), PATIENT, both());
    assert_eq!(chain(&answer), ["one.example.net", "two.example.com"]);
}

#[test]
fn the_case_of_an_answer_does_not_matter() {
    let (answer, _server) = gives(Behaviour::MixedCase("eNd.Example.NET".to_owned(), both()), PATIENT, both());
    assert_eq!(chain(&answer), ["end.example.net"]);
}

#[test]
fn a_chain_given_a_step_at_a_time_is_followed() {
    let server = Nameserver::start(&[
        (NAME, Behaviour::Step("one.example.net".to_owned())),
        ("one.example.net", Behaviour::Step("two.example.net".to_owned())),
        ("two.example.net", Behaviour::Answer(v4())),
    ]);
    let answer = one(&server, PATIENT);
    assert_eq!(addresses(&answer), v4().into_iter().collect());
    assert_eq!(chain(&answer), ["one.example.net", "two.example.net"]);
    assert!(answer.failures.is_empty());
}

#[test]
fn a_chain_of_sixteen_is_followed_and_one_of_seventeen_is_not() {
    let links = |count: usize| (1..=count).map(|n| format!("link{n}.example.net")).collect::<Vec<_>>();
    let (answer, _server) = gives(Behaviour::Chain(links(16), v4()), PATIENT, v4());
    assert_eq!(answer.chain.len(), 16);
    let (answer, _server) = fails(Behaviour::Chain(links(17), v4()), PATIENT, Failure::Loop);
    assert_eq!(answer.chain.len(), 16);
    fails(Behaviour::Chain(links(20), v4()), PATIENT, Failure::Loop);
}

#[test]
fn a_slow_answer_within_the_time_is_an_answer() {
    gives(Behaviour::Slow(Duration::from_millis(300), v4()), PATIENT, v4());
}

#[test]
fn a_server_from_before_edns_is_asked_without() {
    gives(Behaviour::NoEdns(both()), PATIENT, both());
}

// Replies that say there is nothing.

#[test]
fn a_name_that_does_not_exist_is_asked_for_once() {
    let (_answer, server) = fails(Behaviour::NxDomain, PATIENT, Failure::NxDomain);
    assert_eq!(server.total(), 2);
}

#[test]
fn addresses_of_a_name_that_does_not_exist_are_not_believed() {
    fails(Behaviour::NxDomainWith(both()), PATIENT, Failure::NxDomain);
}

#[test]
fn a_name_without_addresses_is_not_a_name_that_does_not_exist() {
    fails(Behaviour::NoData, PATIENT, Failure::NoData);
    fails(Behaviour::Empty, PATIENT, Failure::NoData);
}

#[test]
fn a_chain_that_ends_in_nothing_says_how_far_it_went() {
    let (answer, server) = fails(Behaviour::DeadEnd("end.example.net".to_owned()), PATIENT, Failure::NoData);
    assert_eq!(chain(&answer), ["end.example.net"]);
    assert_eq!(server.total(), 2);
    let (answer, _server) = fails(Behaviour::DeadName("gone.example.net".to_owned()), PATIENT, Failure::NxDomain);
    assert_eq!(chain(&answer), ["gone.example.net"]);
}

#[test]
fn one_family_that_fails_stands_beside_the_one_that_does_not() {
    let (answer, _server) = ask(Behaviour::NxDomainForAaaa(v4()), PATIENT);
    assert_eq!(addresses(&answer), v4().into_iter().collect());
    assert_eq!(answer.failures, BTreeMap::from([(RecordType::Aaaa, Failure::NxDomain)]));

    let (answer, _server) = ask(Behaviour::SilentForAaaa(v4()), QUICK);
    assert_eq!(addresses(&answer), v4().into_iter().collect());
    assert_eq!(answer.failures, BTreeMap::from([(RecordType::Aaaa, Failure::Timeout)]));

    // NODATA of one family does not hide why the other is missing.
    let (answer, _server) = ask(Behaviour::SilentForAaaa(Vec::new()), QUICK);
    assert_eq!(addresses(&answer), BTreeSet::new());
    assert_eq!(answer.failures, BTreeMap::from([(RecordType::Aaaa, Failure::Timeout)]));
}

#[test]
fn names_others_answer_by_themselves_are_asked_for() {
    let list = ["a.localhost", "a.invalid", "a.onion", "a.test", "a.local", "1.0.0.127.in-addr.arpa"];
    let known: Vec<_> = list.iter().map(|name| (*name, Behaviour::Answer(v4()))).collect();
    let server = Nameserver::start(&known);
    for (query, answer) in resolve(&[&server], PATIENT, &list) {
        assert_eq!(addresses(&answer), v4().into_iter().collect(), "{query}");
        assert_eq!(server.count(&query.to_string(), "A", "udp"), 1, "{query}");
    }
    let server = Nameserver::start(&[]);
    for (query, answer) in resolve(&[&server], PATIENT, &list) {
        assert_eq!(answer.failures, failures(Failure::NxDomain, Failure::NxDomain), "{query}");
        assert_eq!(*answer.by, BTreeSet::from([server.addr.to_string()]), "{query}");
    }
}

// Servers that cannot or will not.

#[test]
fn servfail_and_refused_are_kept_apart() {
    let (_answer, server) = fails(Behaviour::ServFail, PATIENT, Failure::ServFail);
    assert_eq!(server.count(NAME, "A", "udp"), 3, "trouble may pass: asked again, and why");
    let (_answer, server) = fails(Behaviour::Refused, PATIENT, Failure::Refused);
    assert_eq!(server.count(NAME, "A", "udp"), 1, "a refusal is not asked for twice");
    fails(Behaviour::NotImplemented, PATIENT, Failure::ServFail);
}

#[test]
fn trouble_that_passes_is_no_failure() {
    gives(Behaviour::ServFailOnce(both()), PATIENT, both());
}

#[test]
fn a_server_that_only_says_whom_else_to_ask_does_not_empty_a_list() {
    fails(Behaviour::Referral, PATIENT, Failure::Refused);
}

#[test]
fn silence_is_a_timeout() {
    let (answer, server) = fails(Behaviour::Silent, QUICK, Failure::Timeout);
    let sent = server.count(NAME, "A", "udp");
    assert!((2..=12).contains(&sent), "{sent} times: again, and not without end");
    assert_eq!(*answer.by, BTreeSet::new(), "nobody said it");
    fails(Behaviour::Slow(Duration::from_secs(2), v4()), QUICK, Failure::Timeout);
    // However long the wait is: each is twice the one before.
    let settings = Settings { timeout: Duration::from_millis(1600), attempts: 1, ..QUICK };
    let (_answer, server) = fails(Behaviour::Silent, settings, Failure::Timeout);
    let sent = server.count(NAME, "A", "udp");
    assert!((2..=6).contains(&sent), "{sent} times");
}

// Cut answers.

#[test]
fn a_cut_answer_is_had_whole_over_tcp() {
    let (_answer, server) = gives(Behaviour::Truncated(both()), PATIENT, both());
    assert_eq!((server.count(NAME, "A", "udp"), server.count(NAME, "A", "tcp")), (1, 1));
}

#[test]
fn four_hundred_addresses_arrive() {
    let (answer, server) = ask(Behaviour::Many(400, 400), PATIENT);
    assert_eq!(answer.addresses.len(), 800);
    assert_eq!(answer.failures, BTreeMap::new());
    assert_eq!((server.count(NAME, "A", "tcp"), server.count(NAME, "AAAA", "tcp")), (1, 1));
}

#[test]
fn more_addresses_than_any_host_has_are_refused() {
    // A short name: one message must hold all addresses of a family.
    for (v4, v6, good) in [(3200, 896, true), (3200, 897, false)] {
        let server = Nameserver::start(&[("a.b", Behaviour::Many(v4, v6))]);
        let answer = &resolve(&[&server], PATIENT, &["a.b"])[&query("a.b")];
        assert_eq!(answer.addresses.len(), if good { 4096 } else { 0 });
        assert_eq!(answer.failures.is_empty(), good);
        assert!(answer.failures.values().all(|failure| *failure == Failure::TooMany));
    }
}

#[test]
fn a_cut_answer_without_tcp_is_no_answer() {
    fails(Behaviour::TruncatedTcpCloses(both()), PATIENT, Failure::Truncated);
    fails(Behaviour::TruncatedTcpSilent(both()), QUICK, Failure::Truncated);
    fails(Behaviour::TruncatedAlways(both()), PATIENT, Failure::Truncated);

    let server = Nameserver::start_without_tcp(&[(NAME, Behaviour::Truncated(both()))]);
    let answer = one(&server, PATIENT);
    assert_eq!(addresses(&answer), BTreeSet::new());
    assert_eq!(answer.failures, failures(Failure::Truncated, Failure::Truncated));
}

#[test]
fn what_one_server_cuts_another_may_have_whole() {
    let cutting = Nameserver::start_without_tcp(&[(NAME, Behaviour::Truncated(both()))]);
    let whole = Nameserver::start(&[(NAME, Behaviour::Answer(both()))]);
    let answer = &resolve(&[&cutting, &whole], PATIENT, &[NAME])[&query(NAME)];
    assert_eq!(addresses(answer), both().into_iter().collect());
    assert_eq!(*answer.by, BTreeSet::from([whole.addr.to_string()]));
}

// Replies that make no sense.

#[test]
fn a_loop_is_no_missing_name() {
    fails(Behaviour::Loop(names(&["one.example.net", "two.example.net"])), PATIENT, Failure::Loop);
    fails(Behaviour::Loop(Vec::new()), PATIENT, Failure::Loop);
    let server = Nameserver::start(&[
        (NAME, Behaviour::Step("one.example.net".to_owned())),
        ("one.example.net", Behaviour::Step("two.example.net".to_owned())),
        ("two.example.net", Behaviour::Step("one.example.net".to_owned())),
    ]);
    let answer = one(&server, PATIENT);
    assert_eq!(answer.failures, failures(Failure::Loop, Failure::Loop));
    assert_eq!(chain(&answer), ["one.example.net", "two.example.net"]);
}

#[test]
fn an_answer_with_another_id_is_not_ours() {
    fails(Behaviour::WrongId(both()), QUICK, Failure::Timeout);
}

#[test]
fn an_answer_to_another_question_is_not_ours() {
    fails(Behaviour::WrongQuestion(both()), QUICK, Failure::Timeout);
    fails(Behaviour::WrongQuestionOverTcp(both()), QUICK, Failure::Truncated);
}

#[test]
fn what_is_no_message_is_malformed() {
    fails(Behaviour::Junk, QUICK, Failure::Malformed);
    fails(Behaviour::Stub, QUICK, Failure::Malformed);
    fails(Behaviour::Echo, QUICK, Failure::Malformed);
    fails(Behaviour::JunkId, QUICK, Failure::Timeout);
}

#[test]
fn a_chain_through_what_is_no_host_name_is_malformed() {
    for name in [
        "under_score.example.net.",
        "localhost.",
        "192.0.2.1.",
        "a b.example.net.",
        "dot\\.inside.example.net.",
        "new\nline.example.net.",
        "quote\".example.net.",
        "nul\0.example.net.",
        "-a.example.net.",
        "xn--example-.org.",
        ".",
    ] {
        let (answer, _server) = fails(Behaviour::Junkname(name.to_owned(), both()), PATIENT, Failure::Malformed);
        assert_eq!(chain(&answer), [""; 0], "{name}");
    }
}

#[test]
fn two_chains_from_one_name_are_malformed() {
    let behaviour = Behaviour::Fork("one.example.net".to_owned(), "two.example.net".to_owned());
    fails(behaviour, PATIENT, Failure::Malformed);
}

#[test]
fn addresses_of_other_names_are_not_taken() {
    let behaviour = Behaviour::Poison(v4(), "other.example.org".to_owned(), ips(&["203.0.113.66"]));
    gives(behaviour, PATIENT, v4());
    let behaviour = Behaviour::Poison(Vec::new(), "other.example.org".to_owned(), ips(&["203.0.113.66"]));
    fails(behaviour, PATIENT, Failure::NoData);
}

#[test]
fn addresses_of_another_class_are_not_taken() {
    fails(Behaviour::WrongClass(v4()), PATIENT, Failure::NoData);
}

#[test]
fn letters_are_asked_in_random_case_and_a_server_that_loses_it_is_asked_over_tcp() {
    let (_answer, server) = gives(Behaviour::FoldsCase(both()), PATIENT, both());
    assert_eq!((server.count(NAME, "A", "udp"), server.count(NAME, "A", "tcp")), (1, 1));
    let spelled = server.spelled();
    assert!(spelled.iter().any(|name| name.bytes().any(|b| b.is_ascii_uppercase())), "{spelled:?}");
}

// Which server is asked.

#[test]
fn servers_are_asked_in_order_and_one_at_a_time() {
    let first = Nameserver::start(&[(NAME, Behaviour::Answer(v4()))]);
    let second = Nameserver::start(&[(NAME, Behaviour::Answer(ips(&["203.0.113.1"])))]);
    for _ in 0..5 {
        let answer = &resolve(&[&first, &second], PATIENT, &[NAME])[&query(NAME)];
        assert_eq!(addresses(answer), v4().into_iter().collect());
        assert_eq!(*answer.by, BTreeSet::from([first.addr.to_string()]));
    }
    assert_eq!(second.total(), 0);
    assert_eq!(first.total(), 10, "asked in every run: nothing is remembered");
}

#[test]
fn the_next_server_is_asked_when_one_has_no_answer() {
    for behaviour in [Behaviour::Silent, Behaviour::ServFail, Behaviour::Refused, Behaviour::Referral, Behaviour::Junk]
    {
        let first = Nameserver::start(&[(NAME, behaviour.clone())]);
        let second = Nameserver::start(&[(NAME, Behaviour::Answer(v4()))]);
        let answer = &resolve(&[&first, &second], QUICK, &[NAME])[&query(NAME)];
        assert_eq!(addresses(answer), v4().into_iter().collect(), "{behaviour:?}");
        assert_eq!(answer.failures, BTreeMap::new(), "{behaviour:?}");
        assert_eq!(*answer.by, BTreeSet::from([second.addr.to_string()]), "{behaviour:?}");
        let sent = first.count(NAME, "A", "udp");
        assert!(sent == 1 || matches!(behaviour, Behaviour::Silent), "{behaviour:?}: {sent}");
    }
}

#[test]
fn that_there_is_nothing_is_final() {
    for (behaviour, failure) in [(Behaviour::NxDomain, Failure::NxDomain), (Behaviour::NoData, Failure::NoData)] {
        let first = Nameserver::start(&[(NAME, behaviour)]);
        let second = Nameserver::start(&[(NAME, Behaviour::Answer(v4()))]);
        let answer = &resolve(&[&first, &second], PATIENT, &[NAME])[&query(NAME)];
        assert_eq!(answer.failures, failures(failure, failure));
        assert_eq!(addresses(answer), BTreeSet::new());
        assert_eq!(second.total(), 0);
    }
}

#[test]
fn what_was_said_counts_for_more_than_silence() {
    let first = Nameserver::start(&[(NAME, Behaviour::Silent)]);
    let second = Nameserver::start(&[(NAME, Behaviour::Refused)]);
    let answer = &resolve(&[&first, &second], QUICK, &[NAME])[&query(NAME)];
    assert_eq!(answer.failures, failures(Failure::Refused, Failure::Refused));
    assert_eq!(*answer.by, BTreeSet::from([second.addr.to_string()]));
}

#[test]
fn a_dead_server_is_found_once() {
    let dead = Nameserver::dead();
    let known: Vec<_> = (0..100).map(|n| format!("host{n}.example.org")).collect();
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    let good = Nameserver::start(&list.iter().map(|name| (*name, Behaviour::Answer(v4()))).collect::<Vec<_>>());
    let answers = resolve(&[&dead, &good], QUICK, &list);
    assert!(answers.values().all(|answer| answer.addresses.len() == 3 && answer.failures.is_empty()));
    assert!(dead.total() <= AT_ONCE, "{}: no more than what goes with the question whether it is there", dead.total());
}

#[test]
fn whoever_answers_for_a_name_is_there() {
    let server = Nameserver::start(&[(".", Behaviour::Silent), (NAME, Behaviour::Answer(v4()))]);
    assert_eq!(addresses(&one(&server, QUICK)), v4().into_iter().collect());
}

#[test]
fn what_is_lost_before_anybody_spoke_is_asked_again_soon() {
    // A server unheard of is given 400 ms. A busy machine gets a few tries.
    let soon = (0..5).any(|_| {
        let names = [("other.example.org", Behaviour::Answer(v4())), (NAME, Behaviour::Deaf(1, both()))];
        let server = Nameserver::start(&names);
        let begun = Instant::now();
        let replies = resolve(&[&server], PATIENT, &[NAME, "other.example.org"]);
        assert_eq!(addresses(&replies[&query(NAME)]), both().into_iter().collect());
        begun.elapsed() < Duration::from_millis(350)
    });
    assert!(soon);
}

#[test]
fn when_nobody_answers_the_error_says_who_was_asked() {
    let (one, other) = (Nameserver::dead(), Nameserver::dead());
    let dns = Dns::with_servers(&[one.addr, other.addr, one.addr]).with_settings(QUICK);
    let error = dns.resolve(&queries(&[NAME]), &|_, _| {}).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "no name server answers: {} and {} asked for 0.5 s; check that this machine may reach them over UDP and TCP, \
             or name another resolver",
            one.addr, other.addr
        )
    );
    assert_eq!([one.total(), other.total()], [2, 2], "what goes with the question whether they are there goes once");
}

#[test]
fn without_servers_nothing_is_asked_and_without_names_nobody_is() {
    let none: &[SocketAddr] = &[];
    assert!(Dns::with_servers(none).resolve(&queries(&[NAME]), &|_, _| {}).is_err());
    let server = Nameserver::start(&[]);
    let dns = Dns::with_servers(&[server.addr]);
    assert_eq!(dns.resolve(&BTreeSet::new(), &|_, _| {}).unwrap(), Heard::default());
    assert_eq!(server.spelled().len(), 0);
}

// Several upstreams, several rounds.

/// Every server an upstream of its own.
fn each(servers: &[&Nameserver], settings: Settings, list: &[&str]) -> Heard {
    let servers: Vec<_> = servers.iter().map(|server| server.addr).collect();
    let begun = Instant::now();
    let heard = Dns::with_servers(&servers).with_settings(settings).resolve(&queries(list), &|_, _| {});
    assert!(begun.elapsed() < Duration::from_secs(8), "took {:?}", begun.elapsed());
    heard.expect("a living server")
}

#[test]
fn every_upstream_is_asked_for_every_name() {
    let first = Nameserver::start(&[(NAME, Behaviour::Slow(Duration::from_millis(100), v4()))]);
    let second = Nameserver::start(&[(NAME, Behaviour::Answer(ips(&["203.0.113.1"])))]);
    let heard = each(&[&first, &second], PATIENT, &[NAME]);
    let replies = &heard.replies[&query(NAME)];
    assert_eq!(replies.len(), 2);
    assert_eq!(
        addresses(&replies[0]),
        v4().into_iter().collect(),
        "in the order they were named, not of their answers"
    );
    assert_eq!(addresses(&replies[1]), BTreeSet::from(["203.0.113.1".parse().unwrap()]));
    assert_eq!(*replies[0].by, BTreeSet::from([first.addr.to_string()]));
    assert_eq!(*replies[1].by, BTreeSet::from([second.addr.to_string()]));
    assert!(heard.silent.is_empty());
    assert!(!heard.out_of_time);
}

#[test]
fn what_one_upstream_does_not_know_stands_beside_what_another_does() {
    let first = Nameserver::start(&[]);
    let second = Nameserver::start(&[(NAME, Behaviour::Answer(both()))]);
    let heard = each(&[&first, &second], PATIENT, &[NAME]);
    let replies = &heard.replies[&query(NAME)];
    assert_eq!(replies[0].failures, failures(Failure::NxDomain, Failure::NxDomain));
    assert_eq!(addresses(&replies[1]), both().into_iter().collect());
}

#[test]
fn an_upstream_that_is_dead_is_named_once_and_says_nothing() {
    let dead = Nameserver::dead();
    let known: Vec<_> = (0..100).map(|n| format!("host{n}.example.org")).collect();
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    let good = Nameserver::start(&list.iter().map(|name| (*name, Behaviour::Answer(v4()))).collect::<Vec<_>>());
    let heard = each(&[&dead, &good], QUICK, &list);
    assert_eq!(heard.silent.keys().collect::<Vec<_>>(), [&dead.addr.to_string()]);
    assert_eq!(heard.replies.len(), 100);
    for replies in heard.replies.values() {
        assert_eq!(replies.len(), 1);
        assert_eq!(addresses(&replies[0]), v4().into_iter().collect());
    }
    assert!(dead.total() <= AT_ONCE, "{}", dead.total());
}

#[test]
fn every_round_asks_everything_again() {
    let server = Nameserver::start(&[
        (NAME, Behaviour::Answer(both())),
        ("_http._tcp.example.org", Behaviour::Srv(vec![("target.example.org".to_owned(), 80)])),
        ("target.example.org", Behaviour::ServFailOnce(v4())),
    ]);
    let other = Nameserver::start(&[(NAME, Behaviour::Answer(v4()))]);
    let settings = Settings { samples: 3, spacing: Duration::from_millis(150), ..PATIENT };
    let seen = Mutex::new(Vec::new());
    let dns = Dns::with_servers(&[server.addr, other.addr]).with_settings(settings);
    let begun = Instant::now();
    let heard = dns
        .resolve(&queries(&[NAME, "_http._tcp.example.org"]), &|done, total| seen.lock().unwrap().push((done, total)))
        .unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300), "two pauses");
    assert_eq!(heard.replies.len(), 3);
    for (query, replies) in &heard.replies {
        assert_eq!(replies.len(), 6, "{query}");
        for (i, reply) in replies.iter().enumerate() {
            let by = if i % 2 == 0 { &server } else { &other };
            assert_eq!(*reply.by, BTreeSet::from([by.addr.to_string()]), "{query}, {i}");
        }
    }
    assert_eq!(server.count(NAME, "A", "udp"), 3);
    let seen = seen.into_inner().unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0), "{seen:?}");
    assert_eq!(seen.last(), Some(&(9, 9)));
}

#[test]
fn a_target_that_comes_to_light_late_is_asked_as_often() {
    let server = Nameserver::start(&[
        ("_http._tcp.example.org", Behaviour::Deaf(3, Vec::new())),
        ("target.example.org", Behaviour::Answer(v4())),
    ]);
    let later =
        Nameserver::start(&[("_http._tcp.example.org", Behaviour::Srv(vec![("target.example.org".to_owned(), 80)]))]);
    let settings = Settings { samples: 2, ..QUICK };
    let heard = each(&[&server, &later], settings, &["_http._tcp.example.org"]);
    assert_eq!(heard.replies[&query("target.example.org")].len(), 4);
    assert_eq!(heard.replies[&query("_http._tcp.example.org")].len(), 4);
}

#[test]
fn a_server_that_goes_silent_is_noticed_once() {
    let known: Vec<_> = (0..2000).map(|n| format!("host{n}.example.org")).collect();
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    let names: Vec<_> = list.iter().map(|name| (*name, Behaviour::Answer(v4()))).collect();
    let server = Nameserver::start(&names).silent_after(1000);
    let heard = each(&[&server], Settings { concurrency: 100, ..QUICK }, &list);
    assert_eq!(heard.replies.len(), 2000);
    let silent = |replies: &&Vec<Reply>| replies[0].failures == failures(Failure::Timeout, Failure::Timeout);
    assert!(heard.replies.values().filter(silent).count() > 1000);
    assert!(heard.replies.values().any(|replies| !replies[0].addresses.is_empty()));
    assert_eq!(heard.silent.keys().collect::<Vec<_>>(), [&server.addr.to_string()]);
    assert!(server.total() < 3000, "{}: the rest is not asked for a name at a time", server.total());
}

#[test]
fn the_next_of_a_list_takes_over_from_one_that_goes_silent() {
    let known: Vec<_> = (0..300).map(|n| format!("host{n}.example.org")).collect();
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    let names: Vec<_> = list.iter().map(|name| (*name, Behaviour::Answer(v4()))).collect();
    let first = Nameserver::start(&names).silent_after(200);
    let second = Nameserver::start(&names);
    let replies = resolve(&[&first, &second], QUICK, &list);
    assert!(replies.values().all(|reply| addresses(reply).len() == 3 && reply.failures.is_empty()));
}

// What is lost, late or said by somebody else.

#[test]
fn a_question_that_is_lost_is_asked_again() {
    gives(Behaviour::Deaf(2, both()), PATIENT, both());
}

#[test]
fn an_answer_that_comes_after_the_question_was_asked_again_is_an_answer() {
    let (_answer, server) = gives(Behaviour::LateOnce(Duration::from_millis(400), both()), PATIENT, both());
    assert!(server.count(NAME, "A", "udp") > 1);
}

#[test]
fn answers_from_another_port_are_not_heard() {
    gives(Behaviour::Elsewhere(ips(&["203.0.113.66", "2001:db8::66"]), both()), PATIENT, both());
}

#[test]
fn the_same_answer_three_times_is_one() {
    let known: Vec<_> = (0..200).map(|n| format!("host{n}.example.org")).collect();
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    let names: Vec<_> = list.iter().map(|name| (*name, Behaviour::Thrice(both()))).collect();
    let server = Nameserver::start(&names);
    let replies = resolve(&[&server], PATIENT, &list);
    assert!(replies.values().all(|reply| addresses(reply) == both().into_iter().collect()));
}

#[test]
fn noise_ends_in_time_and_panics_nowhere() {
    let seeds = 1..400;
    let known: Vec<_> = seeds.clone().map(|n| format!("host{n}.example.org")).collect();
    let names: Vec<_> = known
        .iter()
        .zip(seeds)
        .map(|(name, seed)| (name.as_str(), Behaviour::Noise(seed * 0x9E37_79B9, both())))
        .collect();
    let server = Nameserver::start(&names);
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    assert_eq!(resolve(&[&server], QUICK, &list).len(), 399);
}

// DNSSEC, as the resolver saw it.

#[test]
fn what_dnssec_found_forged_is_bogus() {
    for code in 6..=12 {
        let (answer, server) = fails(Behaviour::Ede(code), PATIENT, Failure::Bogus);
        assert_eq!(*answer.by, BTreeSet::from([server.addr.to_string()]));
        assert_eq!(server.count(NAME, "A", "udp"), 1, "it will be as forged a moment later");
    }
    for code in [0, 1, 2, 5, 13, 22] {
        fails(Behaviour::Ede(code), PATIENT, Failure::ServFail);
    }
}

#[test]
fn what_is_answered_only_without_a_check_is_bogus_and_not_used() {
    let (answer, server) = fails(Behaviour::Unvalidated(both()), PATIENT, Failure::Bogus);
    assert_eq!(*answer.by, BTreeSet::from([server.addr.to_string()]));
    assert_eq!(server.count(NAME, "A", "udp"), 3);
}

#[test]
fn a_forged_name_is_not_asked_of_somebody_who_does_not_check() {
    let first = Nameserver::start(&[(NAME, Behaviour::Ede(6))]);
    let second = Nameserver::start(&[(NAME, Behaviour::Answer(both()))]);
    let answer = &resolve(&[&first, &second], PATIENT, &[NAME])[&query(NAME)];
    assert_eq!(answer.failures, failures(Failure::Bogus, Failure::Bogus));
    assert_eq!(second.total(), 0);
}

#[test]
fn authentic_is_what_is_so_in_every_part() {
    let (answer, _server) = gives(Behaviour::Authentic(names(&["a.example.net"]), both()), PATIENT, both());
    assert!(answer.authentic);
    let (answer, _server) = gives(Behaviour::HalfAuthentic(both()), PATIENT, both());
    assert!(!answer.authentic);
    let (answer, _server) = gives(Behaviour::Answer(both()), PATIENT, both());
    assert!(!answer.authentic);
    // The first step is not validated, the second is.
    let server = Nameserver::start(&[
        (NAME, Behaviour::Step("a.example.net".to_owned())),
        ("a.example.net", Behaviour::Authentic(Vec::new(), v4())),
    ]);
    assert!(!one(&server, PATIENT).authentic);
    let (answer, _server) = fails(Behaviour::Silent, QUICK, Failure::Timeout);
    assert!(!answer.authentic);
}

// Times to live.

#[test]
fn times_to_live_are_kept_and_impossible_ones_are_none() {
    for (said, believed) in [(0, 0), (60, 60), (i32::MAX.unsigned_abs(), i32::MAX.unsigned_abs()), (1 << 31, 0)] {
        let (answer, _server) = gives(Behaviour::Ttl(said, "end.example.net".to_owned(), both()), PATIENT, both());
        assert!(answer.addresses.values().all(|ttl| *ttl == believed), "{said}: {answer:?}");
        assert_eq!(answer.chain[0].ttl, believed);
    }
}

#[test]
fn two_thousand_addresses_arrive() {
    let server = Nameserver::start(&[("a.b", Behaviour::Many(2000, 0))]);
    assert_eq!(resolve(&[&server], PATIENT, &["a.b"])[&query("a.b")].addresses.len(), 2000);
}

// The run as a whole.

#[test]
fn time_for_the_whole_run_is_bounded() {
    let known: Vec<_> = (0..50).map(|n| format!("host{n}.example.org")).collect();
    let list: Vec<_> = known.iter().map(String::as_str).collect();
    let server = Nameserver::start(&list.iter().map(|name| (*name, Behaviour::Silent)).collect::<Vec<_>>());
    let settings = Settings { budget: Duration::from_millis(600), concurrency: 1, ..QUICK };
    let begun = Instant::now();
    let answers = resolve(&[&server], settings, &list);
    assert!(begun.elapsed() < Duration::from_secs(2), "took {:?}", begun.elapsed());
    assert_eq!(answers.len(), 50);
    for answer in answers.values() {
        assert_eq!(answer.failures, failures(Failure::Timeout, Failure::Timeout));
    }
    assert!(server.total() < 20, "what cannot be answered in time is not asked");

    let server = Nameserver::start(&[(NAME, Behaviour::Silent)]);
    let settings = Settings { budget: Duration::from_millis(300), timeout: Duration::from_secs(60), ..QUICK };
    let begun = Instant::now();
    one(&server, settings);
    assert!(begun.elapsed() < Duration::from_secs(2), "one wait may not outlast the run: {:?}", begun.elapsed());
}

#[test]
fn one_bad_name_does_not_stop_the_others_and_two_runs_are_equal() {
    let server = Nameserver::start(&[
        ("a.example.org", Behaviour::Answer(both())),
        ("b.example.org", Behaviour::Silent),
        ("c.example.org", Behaviour::Loop(names(&["d.example.org"]))),
        ("d.example.org", Behaviour::Many(400, 20)),
        ("e.example.org", Behaviour::Chain(names(&["f.example.net"]), both())),
        ("_http._tcp.example.org", Behaviour::Srv(vec![("a.example.org".to_owned(), 80)])),
    ]);
    let list =
        ["a.example.org", "b.example.org", "c.example.org", "d.example.org", "e.example.org", "_http._tcp.example.org"];
    let first = resolve(&[&server], QUICK, &list);
    assert_eq!(first.len(), 6);
    for concurrency in [1, 2, 64] {
        assert_eq!(resolve(&[&server], Settings { concurrency, ..QUICK }, &list), first);
    }
}

#[test]
fn progress_ends_at_the_total() {
    let server = Nameserver::start(&[
        ("a.example.org", Behaviour::Answer(both())),
        ("_http._tcp.example.org", Behaviour::Srv(vec![("b.example.org".to_owned(), 80)])),
    ]);
    let seen = Mutex::new(Vec::new());
    let dns = Dns::with_servers(&[server.addr]).with_settings(PATIENT);
    dns.resolve(&queries(&["a.example.org", "_http._tcp.example.org"]), &|done, total| {
        seen.lock().unwrap().push((done, total));
    })
    .unwrap();
    assert_eq!(seen.into_inner().unwrap(), [(1, 2), (2, 2), (3, 3)]);
}

// Services.

const SERVICE: &str = "_https._tcp.pkg.example.org";

fn service(targets: &[(&str, u16)]) -> (Reply, Replies) {
    let targets = targets.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect();
    let server = Nameserver::start(&[
        (SERVICE, Behaviour::Srv(targets)),
        ("pkg0.example.org", Behaviour::Answer(both())),
        ("pkg1.example.org", Behaviour::Chain(names(&["edge.example.net"]), v4())),
    ]);
    let mut answers = resolve(&[&server], PATIENT, &[SERVICE, "pkg0.example.org"]);
    assert_eq!(server.count("pkg0.example.org", "A", "udp"), 1, "a target that was asked for is not asked again");
    (answers.remove(&query(SERVICE)).expect("every name has an answer"), answers)
}

#[test]
fn a_service_gives_its_targets_and_they_are_asked_for() {
    let (answer, answers) =
        service(&[("PKG0.example.org.", 443), ("pkg1.example.org.", 8443), ("gone.example.org.", 1)]);
    let targets: Vec<_> = answer.targets.iter().map(|(host, port)| (host.as_str(), *port)).collect();
    assert_eq!(targets, [("gone.example.org", 1), ("pkg0.example.org", 443), ("pkg1.example.org", 8443)]);
    assert_eq!(answer.failures, BTreeMap::new());
    assert_eq!(addresses(&answer), BTreeSet::new());
    let hosts: Vec<_> = answers.keys().map(ToString::to_string).collect();
    assert_eq!(hosts, ["gone.example.org", "pkg0.example.org", "pkg1.example.org"]);
    let pkg1 = &answers[&query("pkg1.example.org")];
    assert_eq!((chain(pkg1), pkg1.addresses.len()), (vec!["edge.example.net"], 3));
    let gone = &answers[&query("gone.example.org")];
    assert_eq!(gone.failures, failures(Failure::NxDomain, Failure::NxDomain));
}

#[test]
fn a_service_without_targets_has_no_data() {
    for targets in [&[(".", 0)][..], &[(".", 443)], &[]] {
        let (answer, _) = service(targets);
        assert_eq!(answer.failures, BTreeMap::from([(RecordType::Srv, Failure::NoData)]), "{targets:?}");
        assert_eq!(answer.targets, BTreeSet::new());
    }
}

#[test]
fn a_service_with_targets_that_make_no_sense_has_none() {
    let many: Vec<_> = (0..65).map(|n| format!("t{n}.example.org.")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), 443)).collect();
    let good = ("pkg1.example.org.", 443);
    for targets in [&[good, ("a_b.example.org.", 443)][..], &[good, ("pkg1.example.org.", 0)], &many] {
        let (answer, answers) = service(targets);
        assert_eq!(answer.failures, BTreeMap::from([(RecordType::Srv, Failure::Malformed)]), "{targets:?}");
        assert_eq!(answer.targets, BTreeSet::new());
        assert_eq!(answers.len(), 1, "targets of such a service are not asked for");
    }
    let (answer, answers) = service(&many[..64]);
    assert_eq!((answer.targets.len(), answers.len()), (64, 65));
}

#[test]
fn a_service_fails_as_a_host_does() {
    for (behaviour, failure) in [
        (Behaviour::NxDomain, Failure::NxDomain),
        (Behaviour::ServFail, Failure::ServFail),
        (Behaviour::Silent, Failure::Timeout),
        (Behaviour::Loop(names(&["a.example.org"])), Failure::Loop),
    ] {
        let server = Nameserver::start(&[(SERVICE, behaviour)]);
        let answers = resolve(&[&server], QUICK, &[SERVICE]);
        assert_eq!(answers[&query(SERVICE)].failures, BTreeMap::from([(RecordType::Srv, failure)]));
    }
}

// A real name server.

#[test]
fn a_real_name_server_answers_for_the_documentation_zone() {
    let Some(nsd) = Nsd::serve(Path::new("examples/documentation.zone")) else { return };
    let list = [
        "update.truenas.com",
        "update.ixsystems.com",
        "auto-public.sys.truenas.net",
        "usage.truenas.com",
        "mail.example.org",
        "no-such-name.example.org",
        "_http._tcp.update.freebsd.org",
        "_https._tcp.pkg.freebsd.org",
    ];
    let dns = Dns::with_servers(&[nsd.addr]).with_settings(PATIENT);
    let ask = || replies(dns.resolve(&queries(&list), &|_, _| {}).unwrap());
    let mut answers = ask();
    assert_eq!(answers, ask(), "two runs are equal");

    let gone = answers.remove(&query("no-such-name.example.org")).unwrap();
    assert_eq!(gone.failures, failures(Failure::NxDomain, Failure::NxDomain));
    for (query, answer) in &answers {
        assert_eq!(answer.failures, BTreeMap::new(), "{query}");
        assert_eq!(*answer.by, BTreeSet::from([nsd.addr.to_string()]), "{query}");
        assert_eq!(answer.addresses.is_empty(), matches!(query, Query::Service(_)), "{query}");
    }
    for name in ["update.truenas.com", "update.ixsystems.com", "auto-public.sys.truenas.net"] {
        let update = &answers[&query(name)];
        assert_eq!(update.chain.last().map(|link| link.host.as_str()), Some("link.storjshare.io"), "{name}");
    }
    let pkg = &answers[&query("_https._tcp.pkg.freebsd.org")];
    assert!(!pkg.targets.is_empty());
    for (target, port) in &pkg.targets {
        assert_eq!(*port, 443);
        assert!(answers.contains_key(&Query::Host(target.clone())), "{target} was not asked for");
    }
}

#[test]
fn the_documentation_zone_holds_nothing_but_documentation() {
    let text = std::fs::read_to_string("examples/documentation.zone").unwrap();
    assert!(text.is_ascii());
    // The lower halves of the first two are for the networks of the examples.
    let blocks = [[192, 0, 2, 128], [198, 51, 100, 128], [203, 0, 113, 0]];
    let ours = |ip: Ipv4Addr| {
        let [a, b, c, d] = ip.octets();
        blocks.iter().any(|block| block[..3] == [a, b, c] && d >= block[3])
    };
    let mut owners = BTreeMap::new();
    let mut last = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with([';', '$'])) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [name, "IN", kind, data, ..] = words[..] else { panic!("{line}") };
        assert!(last <= name, "{name} is not in its place");
        last = name;
        match kind {
            "A" => assert!(data.parse().is_ok_and(ours), "{line}"),
            "AAAA" => assert!(data.starts_with("2001:db8:"), "{line}"),
            _ => continue,
        }
        let address: IpAddr = data.parse().unwrap();
        assert_eq!(owners.insert(address, name), None, "{line}: another name has it too");
    }
    assert!(owners.len() > 100);
}

#[test]
fn a_real_name_server_cuts_long_answers_and_gives_them_whole_over_tcp() {
    let dir = tempfile::tempdir().unwrap();
    let zone = dir.path().join("zone");
    let mut text = "$TTL 60\n. IN SOA ns.example.org. hostmaster.example.org. 1 3600 900 604800 60\n\
                    . IN NS ns.example.org.\nns.example.org. IN A 192.0.2.53\nloop.example.org. IN CNAME pool.example.org.\n\
                    pool.example.org. IN CNAME loop.example.org.\nlong.example.org. IN CNAME many.example.org.\n"
        .to_owned();
    for n in 0..250 {
        text += &format!("many.example.org. IN A 203.0.113.{n}\nmany.example.org. IN AAAA 2001:db8::{n:x}\n");
    }
    std::fs::write(&zone, text).unwrap();
    let Some(nsd) = Nsd::serve(&zone) else { return };
    let dns = Dns::with_servers(&[nsd.addr]).with_settings(PATIENT);
    let answers = replies(dns.resolve(&queries(&["long.example.org", "loop.example.org"]), &|_, _| {}).unwrap());
    let long = &answers[&query("long.example.org")];
    assert_eq!((long.addresses.len(), chain(long)), (500, vec!["many.example.org"]));
    assert_eq!(long.failures, BTreeMap::new());
    let around = &answers[&query("loop.example.org")];
    assert_eq!(around.failures, failures(Failure::Loop, Failure::Loop));
}
