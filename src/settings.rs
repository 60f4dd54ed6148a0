//! What a profile may say of each target, checked: values that can stand in that target's files as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use crate::callout::{Endpoint, Origin, Origins};
use crate::diagnostic::{Code, Diagnostic, Findings};
use crate::host::{Host, NamePattern};
use crate::source::{SourceId, Span};
use crate::yaml::Spanned;

/// The targets a site has, each with its settings. `None`: the site does not have that target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of a run that cannot express a part of the policy.
    pub losses: Losses,
    /// The same for single targets, by name, where it is not that of all.
    pub own_losses: BTreeMap<&'static str, Losses>,
    /// The nftables router or host.
    pub nftables: Option<Nftables>,
    /// The pf router or host.
    pub pf: Option<Pf>,
    /// The OPNsense router.
    pub opnsense: Option<Opnsense>,
    /// The Squid proxy.
    pub squid: Option<Squid>,
    /// Plain lists for whatever outgate does not know.
    pub lists: Option<Lists>,
    /// Pods in Kubernetes behind Cilium.
    pub cilium: Option<Cilium>,
    /// An Unbound name server.
    pub unbound: Option<NameServer>,
    /// A dnsmasq name server.
    pub dnsmasq: Option<NameServer>,
    /// A name server that takes response policy zones.
    pub rpz: Option<Rpz>,
    /// A hosts file.
    pub hosts: Option<Hosts>,
}

/// Unbound or dnsmasq.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameServer {
    /// Which names are pinned.
    pub pins: Pins,
}

/// A response policy zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rpz {
    /// Its name: a host name as [`Host`] takes it.
    pub zone: String,
    /// Which names are pinned.
    pub pins: Pins,
}

/// A hosts file: there is nothing to say of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hosts;

/// Which names are pinned to the answers of the lock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pins {
    /// Those that rules allow to clients who are denied the rest.
    #[default]
    All,
    /// None: they keep the answers the name server finds.
    None,
}

/// nftables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nftables {
    /// Name of our own table in family `inet`.
    pub table: String,
    /// Which packets are judged.
    pub hook: Hook,
    /// Priority of our chains; below 0 they see every attempt before other tables filter it.
    pub priority: i16,
    /// The interface the clients are behind; needed for [`Ipv6::DenyInterface`] alone.
    pub interface: Option<String>,
    /// What a denied client sees.
    pub denied: Denied,
    /// Beginning of each line in the kernel log.
    pub log_prefix: String,
    /// Log lines a second, at most.
    pub log_rate: u16,
    /// Whether anything is blocked.
    pub mode: Mode,
    /// What a packet is known by beside its client's addresses.
    pub marks: BTreeMap<Origin, Marks>,
    /// Names whose addresses dnsmasq puts in as it answers, each with its place.
    pub by_dns: Vec<(NamePattern, Span)>,
}

/// Whether a target blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What no rule allows is denied.
    #[default]
    Enforce,
    /// It is counted and logged as if it were denied, and let through.
    Audit,
}

/// What packets of a client are known by, whatever their address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Hardware addresses, in lower case with colons.
    pub macs: BTreeSet<String>,
    /// Interfaces they come in by.
    pub interfaces: BTreeSet<String>,
}

/// Which packets nftables judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Those that pass through: on a router.
    Forward,
    /// Those of the host itself: on the NAS.
    Output,
    /// Both: on a NAS that routes for its jails or apps.
    Both,
}

/// What a denied client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// An answer at once: TCP reset, ICMP administratively prohibited.
    Reject,
    /// Nothing.
    Drop,
}

/// pf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pf {
    /// Whose pf.
    pub dialect: Dialect,
    /// The interface the clients are behind, or the outer interface with [`Side::Host`].
    pub interface: String,
    /// Router or host.
    pub side: Side,
    /// Name of our own anchor.
    pub anchor: String,
    /// Folder on the router that holds the table files.
    pub tables: String,
    /// What a denied client sees.
    pub denied: Denied,
}

/// Whose pf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// FreeBSD 14 and 15.
    Freebsd,
    /// OpenBSD 7.
    Openbsd,
}

/// Where pf runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// On the router: packets are judged as they come in from the clients, before address translation.
    Router,
    /// On the NAS itself: packets are judged as they go out.
    Host,
}

/// OPNsense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opnsense {
    /// Its version.
    pub version: OpnsenseVersion,
    /// Key of the interface the clients are behind, as config.xml has it: `lan`, `opt1`.
    pub interface: String,
    /// Sequence of the first rule.
    pub sequence: u32,
    /// Beginning of each alias name.
    pub prefix: String,
    /// Who resolves names.
    pub resolve: ResolveAt,
    /// What a denied client sees.
    pub denied: Denied,
}

/// A version of OPNsense, as far as it decides what it accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpnsenseVersion {
    /// 24.7: one family and one protocol a rule, by API.
    V24_7,
    /// 25.1: rules by API.
    V25_1,
    /// 25.7: rules by API.
    V25_7,
    /// 26.1: rules as CSV.
    V26_1,
    /// 26.7: rules as CSV.
    V26_7,
}

/// Who turns names into addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolveAt {
    /// The firewall, every few minutes.
    Firewall,
    /// We, when the lock was made.
    Lock,
}

/// Squid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Squid {
    /// The port clients speak to.
    pub port: u16,
    /// Certificate and key in one PEM file on the proxy; never shown to a client whose name is allowed.
    pub certificate: String,
    /// Folder on the proxy that holds the list files.
    pub lists: String,
    /// Where connections come in that the packet filter turns to the proxy; `None` if it turns none.
    pub intercept: Option<Intercept>,
    /// What is decrypted; `None` if nothing is.
    pub decrypt: Option<Decrypt>,
    /// The name the clients know the proxy by, for a file that tells them; `None` for no such file.
    pub pac: Option<Host>,
}

/// The ports of a proxy that clients do not know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intercept {
    /// For connections to 80/tcp.
    pub http: u16,
    /// For connections to 443/tcp.
    pub https: u16,
}

/// TLS that the proxy opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decrypt {
    /// Certificate and key, in one PEM file on the proxy, of an authority that the clients trust.
    pub ca: String,
    /// What is let out of the hosts it opens.
    pub paths: Vec<UrlPrefix>,
}

/// A host and the beginning of paths there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UrlPrefix {
    /// The host.
    pub host: Host,
    /// Begins and ends with `/`, and holds letters, digits, `_`, `.` and `-` between.
    pub path: String,
    /// Where it is written.
    pub span: Span,
}

/// Plain lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lists {
    /// What there are lists of.
    pub hold: Hold,
    /// Whether the files have a head of comments. Some readers take none.
    pub comments: Comments,
}

/// What there are lists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// Addresses and names.
    Both,
    /// Addresses alone.
    Addresses,
    /// Names alone; no lock is needed.
    Names,
}

/// How a list says what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comments {
    /// In lines that begin with `#`.
    Hash,
    /// Not at all: entries alone.
    None,
}

/// Cilium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cilium {
    /// Name of the policy.
    pub name: String,
    /// The namespace the pods are in.
    pub namespace: String,
    /// The labels of the pods, at least one.
    pub endpoints: BTreeMap<String, String>,
    /// Whose rules the pods get; never the administrator's.
    pub origins: Origins,
    /// The namespace of the cluster's DNS.
    pub dns_namespace: String,
    /// The labels of the cluster's DNS, at least one.
    pub dns_endpoints: BTreeMap<String, String>,
    /// Domains below which the pods may look up anything: those of the cluster itself.
    pub search: Vec<String>,
}

/// The origins whose rules a pod can have. The administrator's browser is not one: its traffic is not limited.
pub(crate) struct PodOrigin;

impl PodOrigin {
    pub(crate) const NAMES: [(&'static str, Origin); 3] =
        [("nas", Origin::Nas), ("jail", Origin::Jail), ("app", Origin::App)];
}

/// What becomes of a run in which a target cannot express a part of the policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Losses {
    /// Each loss is said, and written beside the files.
    #[default]
    Report,
    /// Each loss is an error.
    Refuse,
}

/// What is done about a client that is named in one address family only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6 {
    /// Such a profile is refused: the other family would not be limited.
    #[default]
    Clients,
    /// All IPv6 that enters on the clients' interface is denied.
    DenyInterface,
}

/// The targets a site has. A target is on when its key is there.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSettings {
    /// nftables on a Linux router or host. `nftables: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    nftables: Option<RawNftables>,
    /// pf on a FreeBSD or OpenBSD router or host.
    #[serde(default, deserialize_with = "with_interface")]
    #[schemars(with = "RawPf")]
    pf: Option<RawPf>,
    /// An OPNsense router.
    #[serde(default, deserialize_with = "with_interface")]
    #[schemars(with = "RawOpnsense")]
    opnsense: Option<RawOpnsense>,
    /// A Squid proxy. `squid: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    squid: Option<RawSquid>,
    /// Plain lists for routers and services outgate does not know. `lists: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    lists: Option<RawLists>,
    /// Pods in Kubernetes, behind Cilium.
    #[serde(default, deserialize_with = "with_namespace")]
    #[schemars(with = "RawCilium")]
    cilium: Option<RawCilium>,
    /// An Unbound name server that the clients ask. `unbound: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    unbound: Option<RawNameServer>,
    /// A dnsmasq name server that the clients ask. `dnsmasq: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    dnsmasq: Option<RawNameServer>,
    /// A name server that takes response policy zones, such as BIND. `rpz: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    rpz: Option<RawRpz>,
    /// A hosts file of the wanted names. `hosts: {}` takes every default.
    #[serde(default, deserialize_with = "bare")]
    hosts: Option<RawHosts>,
}

/// A target that is named with nothing behind it is there, with its defaults: to drop it would lose a target.
fn bare<'de, T: Deserialize<'de> + Default, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

/// As [`bare`], for a target that has no default for everything.
fn with_interface<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)?.map(Some).ok_or_else(|| D::Error::missing_field("interface"))
}

fn with_namespace<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)?.map(Some).ok_or_else(|| D::Error::missing_field("namespace"))
}

/// As [`bare`], for TLS that is opened: with no path said, the hosts would be let out as a whole.
fn with_paths<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)?.map(Some).ok_or_else(|| D::Error::missing_field("paths"))
}

type Word = Option<Spanned<String>>;
type Words = Spanned<Vec<Spanned<String>>>;

/// Least and most of each number; the reader and the schema have them from here.
const PRIORITY: (i64, i64) = (-399, 399);
const LOG_RATE: (i64, i64) = (1, 1000);
/// The last sequence any version takes is 99999; our rules go up in tens.
const SEQUENCE: (i64, i64) = (1, 80_000);
const PORT: (i64, i64) = (1, 65_535);

/// nftables. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawNftables {
    /// The table, in family `inet`: `outgate`, or a name that begins with `outgate_`.
    #[schemars(extend("default" = Nftables::default().table))]
    table: Word,
    /// `forward` on a router, `output` on the NAS itself, `both` on a NAS that routes for jails or apps.
    #[schemars(with = "Option<Hook>", extend("default" = name(&Hook::NAMES, Nftables::default().hook)))]
    hook: Word,
    /// Priority of the base chains.
    #[schemars(range(min = PRIORITY.0, max = PRIORITY.1), extend("default" = Nftables::default().priority))]
    priority: Option<Spanned<i64>>,
    /// The interface the clients are behind, such as `lan0`. Used by `ipv6: deny-interface` alone, and needed there.
    interface: Word,
    /// What a denied client sees: `reject` (an answer at once) or `drop` (nothing).
    #[schemars(with = "Option<Denied>", extend("default" = name(&Denied::NAMES, Nftables::default().denied)))]
    denied: Word,
    /// Beginning of each line in the kernel log.
    #[schemars(extend("default" = Nftables::default().log_prefix))]
    log_prefix: Word,
    /// Log lines a second, at most.
    #[schemars(range(min = LOG_RATE.0, max = LOG_RATE.1), extend("default" = Nftables::default().log_rate))]
    log_rate: Option<Spanned<i64>>,
    /// `enforce`, or `audit`: everything is counted and logged as if it were denied, and let through.
    #[schemars(with = "Option<Mode>", extend("default" = name(&Mode::NAMES, Mode::default())))]
    mode: Word,
    /// What packets of the clients are known by beside their addresses: both families at once.
    clients: RawMarkedClients,
    /// Names whose addresses cannot be listed, such as `[cdn.example.org, "*.example.net"]`: dnsmasq puts them into the
    /// sets as it answers. dnsmasq takes every name below each of them too.
    by_dns: Vec<Spanned<String>>,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// What packets of the clients are known by, by who opens the connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawMarkedClients {
    /// The system itself.
    nas: RawMarks,
    /// The machines whose browser shows the web interface.
    admin: RawMarks,
    /// Jails and plugins.
    jails: RawMarks,
    /// Apps and containers.
    apps: RawMarks,
}

/// What packets of one kind of client are known by.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawMarks {
    /// Hardware addresses on the router's own segment, such as `["02:00:5e:10:00:01"]`.
    mac: Vec<Spanned<String>>,
    /// Interfaces of the router that nothing but these clients is behind, such as `[lan1]`.
    interface: Vec<Spanned<String>>,
}

/// pf. The interface must be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawPf {
    /// `freebsd` (14 and 15) or `openbsd` (7).
    #[schemars(with = "Option<Dialect>", extend("default" = name(&Dialect::NAMES, Pf::on("").dialect)))]
    dialect: Word,
    /// The interface the clients are behind, such as `em1`; with `side: host` the outer interface.
    interface: Spanned<String>,
    /// `router`: packets are judged as they come in. `host`: as they go out.
    #[schemars(with = "Option<Side>", extend("default" = name(&Side::NAMES, Pf::on("").side)))]
    side: Word,
    /// The anchor: `outgate`, or a name that begins with `outgate_`.
    #[schemars(extend("default" = Pf::on("").anchor))]
    anchor: Word,
    /// Folder on the router that takes the files: `/usr/local/etc/outgate`, or `/etc/outgate` on OpenBSD.
    tables: Word,
    /// What a denied client sees: `reject` (an answer at once) or `drop` (nothing).
    #[schemars(with = "Option<Denied>", extend("default" = name(&Denied::NAMES, Pf::on("").denied)))]
    denied: Word,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// OPNsense. Version and interface must be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawOpnsense {
    /// Its version, such as `"26.1"`. A point release counts as its series.
    #[schemars(with = "OpnsenseVersion")]
    version: Spanned<String>,
    /// The interface's key in config.xml, such as `lan` or `opt1`; not its description.
    interface: Spanned<String>,
    /// Sequence of the first rule. Rules go up in tens.
    #[schemars(range(min = SEQUENCE.0, max = SEQUENCE.1), extend("default" = Opnsense::on("").sequence))]
    sequence: Option<Spanned<i64>>,
    /// Beginning of each alias name, at most 10 characters.
    #[schemars(extend("default" = Opnsense::on("").prefix))]
    prefix: Word,
    /// Who turns names into addresses: `firewall` (OPNsense, every few minutes) or `lock`.
    #[schemars(with = "Option<ResolveAt>", extend("default" = name(&ResolveAt::NAMES, Opnsense::on("").resolve)))]
    resolve: Word,
    /// What a denied client sees: `reject` (an answer at once) or `drop` (nothing).
    #[schemars(with = "Option<Denied>", extend("default" = name(&Denied::NAMES, Opnsense::on("").denied)))]
    denied: Word,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// Squid. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawSquid {
    /// The port clients speak to.
    #[schemars(range(min = PORT.0, max = PORT.1), extend("default" = Squid::default().port))]
    port: Option<Spanned<i64>>,
    /// Certificate and key in one PEM file on the proxy. Shown with a denial only.
    #[schemars(extend("default" = Squid::default().certificate))]
    certificate: Word,
    /// Folder on the proxy that takes the list files.
    #[schemars(extend("default" = Squid::default().lists))]
    lists: Word,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
    /// Takes connections that the router turns to the proxy, beside those of clients that know it.
    #[serde(deserialize_with = "bare")]
    intercept: Option<RawIntercept>,
    /// Opens the TLS of some hosts and lets out only what is below some paths.
    #[serde(deserialize_with = "with_paths")]
    #[schemars(with = "RawDecrypt")]
    decrypt: Option<RawDecrypt>,
    /// The name the clients know the proxy by, such as `proxy.example.org`: with it, `outgate.pac` is written.
    pac: Word,
}

/// Plain lists. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct RawLists {
    /// What there are lists of: `both`, `addresses`, or `names`, which needs no lock.
    #[schemars(with = "Option<Hold>", extend("default" = name(&Hold::NAMES, Lists::default().hold)))]
    hold: Word,
    /// `hash` for a head of lines that begin with `#`, `none` for readers that take no comments.
    #[schemars(with = "Option<Comments>", extend("default" = name(&Comments::NAMES, Lists::default().comments)))]
    comments: Word,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// Cilium. The pods and whose rules they get must be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawCilium {
    /// The namespace the pods are in.
    namespace: Spanned<String>,
    /// The labels that choose the pods, as `kubectl -l` takes them: `app=recorder`. A pod must have all of them.
    #[schemars(extend("minItems" = 1))]
    endpoints: Words,
    /// Whose rules the pods get: `nas`, `jail`, `app`.
    #[schemars(with = "Vec<PodOrigin>", extend("minItems" = 1))]
    origins: Words,
    /// Name of the policy.
    #[schemars(extend("default" = Cilium::on("").name))]
    name: Word,
    /// The namespace of the cluster's DNS.
    #[schemars(extend("default" = Cilium::on("").dns_namespace))]
    dns_namespace: Word,
    /// The labels that choose the cluster's DNS.
    #[schemars(extend("default" = [DNS_LABEL], "minItems" = 1))]
    dns_endpoints: Option<Words>,
    /// Domains below which the pods may look up anything: those of the cluster itself.
    #[schemars(extend("default" = Cilium::on("").search))]
    search: Option<Words>,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// Unbound or dnsmasq. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawNameServer {
    /// `all`: wanted names are answered with the addresses of the lock. `none`: with what the name server finds.
    #[schemars(with = "Option<Pins>", extend("default" = name(&Pins::NAMES, Pins::default())))]
    pins: Word,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// A response policy zone. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawRpz {
    /// The name of the zone, as the name server's own configuration has it.
    #[schemars(extend("default" = RPZ))]
    zone: Word,
    /// `all`: wanted names are answered with the addresses of the lock. `none`: with what the name server finds.
    #[schemars(with = "Option<Pins>", extend("default" = name(&Pins::NAMES, Pins::default())))]
    pins: Word,
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// A hosts file. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawHosts {
    /// `report`, or `refuse`: what this target cannot express is an error. The profile's own `losses` where it is not here.
    #[schemars(with = "Option<Losses>")]
    losses: Word,
}

/// The name of the response policy zone if nothing is said.
const RPZ: &str = "rpz.outgate";

/// The ports that a packet filter turns connections to. Every key may be left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RawIntercept {
    /// Takes connections to 80/tcp.
    #[schemars(range(min = PORT.0, max = PORT.1), extend("default" = Intercept::default().http))]
    http: Option<Spanned<i64>>,
    /// Takes connections to 443/tcp.
    #[schemars(range(min = PORT.0, max = PORT.1), extend("default" = Intercept::default().https))]
    https: Option<Spanned<i64>>,
}

/// What the proxy decrypts. The paths must be there.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawDecrypt {
    /// Certificate and key, in one PEM file on the proxy, of an authority that the clients trust. It takes the place of
    /// `certificate`.
    #[serde(default)]
    #[schemars(extend("default" = CA))]
    ca: Word,
    /// Hosts and beginnings of paths, such as `[git.example.org/team/]`. All else on these hosts is denied.
    #[schemars(with = "Vec<String>", extend("minItems" = 1))]
    paths: Spanned<Vec<Spanned<String>>>,
}

/// Where the authority's certificate and key are if nothing is said.
const CA: &str = "/etc/squid/outgate-ca.pem";

impl Default for Nftables {
    fn default() -> Self {
        Self {
            table: "outgate".to_owned(),
            hook: Hook::Forward,
            priority: -5,
            interface: None,
            denied: Denied::Reject,
            log_prefix: "outgate".to_owned(),
            log_rate: 5,
            mode: Mode::default(),
            marks: BTreeMap::new(),
            by_dns: Vec::new(),
        }
    }
}

impl Default for Squid {
    fn default() -> Self {
        Self {
            port: 3128,
            certificate: "/etc/squid/outgate.pem".to_owned(),
            lists: "/etc/squid/outgate".to_owned(),
            intercept: None,
            decrypt: None,
            pac: None,
        }
    }
}

impl Default for Intercept {
    fn default() -> Self {
        Self { http: 3129, https: 3130 }
    }
}

impl Pf {
    /// pf on a router with this interface to the clients, all else at its default.
    #[must_use]
    pub fn on(interface: &str) -> Self {
        Self {
            dialect: Dialect::Freebsd,
            interface: interface.to_owned(),
            side: Side::Router,
            anchor: "outgate".to_owned(),
            tables: "/usr/local/etc/outgate".to_owned(),
            denied: Denied::Reject,
        }
    }
}

impl Opnsense {
    /// OPNsense 26.1 with this interface to the clients, all else at its default.
    #[must_use]
    pub fn on(interface: &str) -> Self {
        Self {
            version: OpnsenseVersion::V26_1,
            interface: interface.to_owned(),
            sequence: 1000,
            prefix: "OG".to_owned(),
            resolve: ResolveAt::Firewall,
            denied: Denied::Reject,
        }
    }
}

impl Default for Lists {
    fn default() -> Self {
        Self { hold: Hold::Both, comments: Comments::Hash }
    }
}

/// The label of the cluster's DNS nearly everywhere.
const DNS_LABEL: &str = "k8s-app=kube-dns";

impl Cilium {
    /// Pods of this namespace that bear `app: outgate`, with the rules of every origin, all else at its default.
    #[must_use]
    pub fn on(namespace: &str) -> Self {
        let labels = |text: &str| label(text).into_iter().collect();
        Self {
            name: "outgate".to_owned(),
            namespace: namespace.to_owned(),
            endpoints: labels("app=outgate"),
            origins: PodOrigin::NAMES.map(|(_, origin)| origin).into(),
            dns_namespace: "kube-system".to_owned(),
            dns_endpoints: labels(DNS_LABEL),
            search: vec!["cluster.local".to_owned()],
        }
    }
}

impl Default for Rpz {
    fn default() -> Self {
        Self { zone: RPZ.to_owned(), pins: Pins::default() }
    }
}

impl Pins {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("all", Self::All), ("none", Self::None)];
}

impl Hold {
    pub(crate) const NAMES: [(&'static str, Self); 3] =
        [("both", Self::Both), ("addresses", Self::Addresses), ("names", Self::Names)];
}

impl Comments {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("hash", Self::Hash), ("none", Self::None)];
}

impl Hook {
    pub(crate) const NAMES: [(&'static str, Self); 3] =
        [("forward", Self::Forward), ("output", Self::Output), ("both", Self::Both)];
}

impl Mode {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("enforce", Self::Enforce), ("audit", Self::Audit)];
}

impl Denied {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("reject", Self::Reject), ("drop", Self::Drop)];
}

impl Dialect {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("freebsd", Self::Freebsd), ("openbsd", Self::Openbsd)];
}

impl Side {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("router", Self::Router), ("host", Self::Host)];
}

impl ResolveAt {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("firewall", Self::Firewall), ("lock", Self::Lock)];
}

impl Losses {
    pub(crate) const NAMES: [(&'static str, Self); 2] = [("report", Self::Report), ("refuse", Self::Refuse)];
}

impl Ipv6 {
    pub(crate) const NAMES: [(&'static str, Self); 2] =
        [("clients", Self::Clients), ("deny-interface", Self::DenyInterface)];
}

/// The word of a value.
fn name<T: PartialEq>(names: &[(&'static str, T)], value: T) -> &'static str {
    names.iter().find(|(_, v)| *v == value).map_or("", |(name, _)| name)
}

impl OpnsenseVersion {
    pub(crate) const NAMES: [(&'static str, Self); 5] = [
        ("24.7", Self::V24_7),
        ("25.1", Self::V25_1),
        ("25.7", Self::V25_7),
        ("26.1", Self::V26_1),
        ("26.7", Self::V26_7),
    ];
}

impl fmt::Display for OpnsenseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(name(&Self::NAMES, *self))
    }
}

impl Settings {
    /// What becomes of a run in which this target cannot express a part of the policy.
    #[must_use]
    pub fn losses_of(&self, target: &str) -> Losses {
        self.own_losses.get(target).copied().unwrap_or(self.losses)
    }
}

impl RawSettings {
    /// Checks every value; every fault becomes a finding.
    pub fn check(&self, source: SourceId, findings: &mut Findings) -> Settings {
        let mut ctx = Context { source, findings };
        let losses = [
            ("cilium", self.cilium.as_ref().map(|raw| &raw.losses)),
            ("lists", self.lists.as_ref().map(|raw| &raw.losses)),
            ("nftables", self.nftables.as_ref().map(|raw| &raw.losses)),
            ("opnsense", self.opnsense.as_ref().map(|raw| &raw.losses)),
            ("pf", self.pf.as_ref().map(|raw| &raw.losses)),
            ("squid", self.squid.as_ref().map(|raw| &raw.losses)),
            ("unbound", self.unbound.as_ref().map(|raw| &raw.losses)),
            ("dnsmasq", self.dnsmasq.as_ref().map(|raw| &raw.losses)),
            ("rpz", self.rpz.as_ref().map(|raw| &raw.losses)),
            ("hosts", self.hosts.as_ref().map(|raw| &raw.losses)),
        ];
        let own = losses.into_iter().filter_map(|(target, word)| Some((target, word?)));
        let own = own.filter(|(_, word)| word.is_some());
        Settings {
            losses: Losses::default(),
            own_losses: own
                .map(|(target, word)| (target, ctx.choice(word, &Losses::NAMES, Losses::default())))
                .collect(),
            nftables: self.nftables.as_ref().map(|raw| ctx.nftables(raw)),
            pf: self.pf.as_ref().map(|raw| ctx.pf(raw)),
            opnsense: self.opnsense.as_ref().map(|raw| ctx.opnsense(raw)),
            squid: self.squid.as_ref().map(|raw| ctx.squid(raw)),
            lists: self.lists.as_ref().map(|raw| ctx.lists(raw)),
            cilium: self.cilium.as_ref().map(|raw| ctx.cilium(raw)),
            unbound: self.unbound.as_ref().map(|raw| ctx.name_server(raw)),
            dnsmasq: self.dnsmasq.as_ref().map(|raw| ctx.name_server(raw)),
            rpz: self.rpz.as_ref().map(|raw| ctx.rpz(raw)),
            hosts: self.hosts.as_ref().map(|_| Hosts),
        }
    }
}

/// Whether a text can be the name of a network interface: at most 15 characters, none that a rule file reads as more.
#[must_use]
pub fn is_interface(text: &str) -> bool {
    (1..=15).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Whether a text is the hardware address of one machine.
fn is_mac(text: &str) -> bool {
    let pairs: Vec<&str> = text.split(':').collect();
    let hexadecimal = |pair: &&str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
    let first = pairs.first().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    pairs.len() == 6
        && pairs.iter().all(hexadecimal)
        && first.is_some_and(|byte| byte & 1 == 0)
        && text.bytes().any(|b| !matches!(b, b'0' | b':'))
}

fn is_word(text: &str, max: usize) -> bool {
    (1..=max).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A table or anchor that is ours by its name: loading empties it, so it must never be the owner's.
fn is_ours(text: &str, max: usize) -> bool {
    is_word(text, max) && (text == "outgate" || text.starts_with("outgate_"))
}

const OURS: &str = "`outgate`, or a name that begins with `outgate_`: loading empties it, so it must be nobody else\'s";

/// Words that pf reads as more than one interface, or as no interface, behind `on`.
const PF_WORDS: [&str; 8] = ["all", "any", "from", "inet", "inet6", "on", "proto", "to"];

fn is_path(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with('/')
        && !text.ends_with('/')
        && !text.contains("//")
        && !text.split('/').any(|part| part == "..")
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'_' | b'.' | b'-'))
}

/// Checks the word that holds for every target.
pub fn losses(word: &Option<Spanned<String>>, source: SourceId, findings: &mut Findings) -> Losses {
    Context { source, findings }.choice(word, &Losses::NAMES, Losses::default())
}

/// A name of DNS labels as Kubernetes takes them: lower case letters, digits and hyphens, with dots between.
fn is_dns_name(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inside) && !text.starts_with('-') && !text.ends_with('-')
}

/// Key and value of a label. Cilium reads more into a key with a colon.
fn label(text: &str) -> Option<(String, String)> {
    let part = |text: &str| {
        let ends = |c: char| c.is_ascii_alphanumeric();
        let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        (1..=63).contains(&text.len()) && text.starts_with(ends) && text.ends_with(ends) && text.bytes().all(inside)
    };
    let (key, value) = text.split_once('=')?;
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let good = prefix.is_none_or(is_dns_name) && part(name) && part(value);
    good.then(|| (key.to_owned(), value.to_owned()))
}

/// Whether a text is the beginning of a path, in characters that every client and server spells one way.
fn is_url_path(text: &str) -> bool {
    let inner = text.strip_prefix('/').and_then(|text| text.strip_suffix('/')).unwrap_or("");
    text.len() <= 100
        && inner.split('/').all(|part| {
            !matches!(part, "" | "." | "..")
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        })
}

struct Context<'a> {
    source: SourceId,
    findings: &'a mut Findings,
}

impl Context<'_> {
    fn fail<T>(&mut self, at: &Spanned<T>, message: String, help: &str) {
        self.findings.push(Diagnostic::new(Code::BadSetting, message).at(at.span(self.source), "").help(help));
    }

    fn fit(&mut self, raw: &Spanned<String>, good: impl Fn(&str) -> bool, what: &str) -> String {
        if !good(&raw.value) {
            self.fail(raw, format!("`{}` cannot be used here", crate::text::quoted(&raw.value)), what);
        }
        raw.value.clone()
    }

    fn maybe(&mut self, raw: &Word, default: &str, good: impl Fn(&str) -> bool, what: &str) -> String {
        raw.as_ref().map_or_else(|| default.to_owned(), |raw| self.fit(raw, good, what))
    }

    fn choice<T: Copy>(&mut self, raw: &Word, choices: &[(&str, T)], default: T) -> T {
        let Some(raw) = raw else { return default };
        if let Some(&(_, value)) = choices.iter().find(|(name, _)| *name == raw.value) {
            return value;
        }
        let known: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let help = crate::diagnostic::suggest(&raw.value, &known);
        self.fail(raw, format!("`{}` is not a choice here", crate::text::quoted(&raw.value)), &help);
        default
    }

    fn number<T: TryFrom<i64> + Copy + fmt::Display + Into<i64>>(
        &mut self,
        raw: Option<&Spanned<i64>>,
        default: T,
        (least, most): (i64, i64),
    ) -> T {
        let Some(raw) = raw else { return default };
        if (least..=most).contains(&raw.value)
            && let Ok(value) = T::try_from(raw.value)
        {
            return value;
        }
        self.fail(raw, format!("{} is out of range", raw.value), &format!("a number from {least} to {most}"));
        default
    }

    fn denied(&mut self, raw: &Word) -> Denied {
        self.choice(raw, &Denied::NAMES, Denied::Reject)
    }

    fn interface(&mut self, raw: &Spanned<String>) -> String {
        self.fit(raw, is_interface, "an interface name: at most 15 letters, digits, `_`, `.` or `-`")
    }

    fn nftables(&mut self, raw: &RawNftables) -> Nftables {
        let default = Nftables::default();
        Nftables {
            table: self.maybe(&raw.table, &default.table, |t| is_ours(t, 31), OURS),
            hook: self.choice(&raw.hook, &Hook::NAMES, default.hook),
            priority: self.number(raw.priority.as_ref(), default.priority, PRIORITY),
            interface: raw.interface.as_ref().map(|raw| self.interface(raw)),
            denied: self.denied(&raw.denied),
            // The prefix is followed by a cause; the kernel takes 127 bytes.
            log_prefix: self.maybe(
                &raw.log_prefix,
                &default.log_prefix,
                |t| is_word(t, 31),
                "a letter, then letters, digits or `_`, at most 31",
            ),
            log_rate: self.number(raw.log_rate.as_ref(), default.log_rate, LOG_RATE),
            mode: self.choice(&raw.mode, &Mode::NAMES, Mode::default()),
            marks: self.marks(&raw.clients),
            by_dns: raw.by_dns.iter().filter_map(|name| self.pattern(name)).collect(),
        }
    }

    fn marks(&mut self, raw: &RawMarkedClients) -> BTreeMap<Origin, Marks> {
        let origins = [
            (Origin::Nas, &raw.nas),
            (Origin::Browser, &raw.admin),
            (Origin::Jail, &raw.jails),
            (Origin::App, &raw.apps),
        ];
        let mut all = BTreeMap::new();
        for (origin, raw) in origins {
            let what = "six pairs of hexadecimal digits with colons, of one machine: no multicast and not all zero";
            let macs = raw.mac.iter().map(|mac| self.fit(mac, is_mac, what).to_ascii_lowercase()).collect();
            let what = "an interface name: a letter, then at most 14 letters, digits, `_`, `.` or `-`";
            let good = |text: &str| is_interface(text) && text.starts_with(|c: char| c.is_ascii_alphabetic());
            let interfaces = raw.interface.iter().map(|name| self.fit(name, good, what)).collect();
            let marks = Marks { macs, interfaces };
            if marks != Marks::default() {
                all.insert(origin, marks);
            }
        }
        all
    }

    fn pattern(&mut self, raw: &Spanned<String>) -> Option<(NamePattern, Span)> {
        match Endpoint::parse(&raw.value) {
            Ok(Endpoint::Name(pattern)) => Some((pattern, raw.span(self.source))),
            Ok(_) => {
                self.fail(
                    raw,
                    format!("`{}` is no name", crate::text::quoted(&raw.value)),
                    "name a host or a wildcard",
                );
                None
            }
            Err((code, message)) => {
                self.findings.push(Diagnostic::new(code, message).at(raw.span(self.source), ""));
                None
            }
        }
    }

    fn pf(&mut self, raw: &RawPf) -> Pf {
        let good = |text: &str| is_interface(text) && !PF_WORDS.contains(&text);
        let interface = self.fit(&raw.interface, good, "the name of one interface, such as `em1`");
        let default = Pf::on(&interface);
        let dialect = self.choice(&raw.dialect, &Dialect::NAMES, default.dialect);
        let tables = match dialect {
            Dialect::Freebsd => "/usr/local/etc/outgate",
            Dialect::Openbsd => "/etc/outgate",
        };
        Pf {
            dialect,
            side: self.choice(&raw.side, &Side::NAMES, default.side),
            anchor: self.maybe(&raw.anchor, &default.anchor, |t| is_ours(t, 63), OURS),
            tables: self.maybe(
                &raw.tables,
                tables,
                is_path,
                "an absolute path of letters, digits, `_`, `.` and `-`, without a final `/`",
            ),
            denied: self.denied(&raw.denied),
            interface,
        }
    }

    fn opnsense(&mut self, raw: &RawOpnsense) -> Opnsense {
        let interface = self.fit(
            &raw.interface,
            |t| is_word(t, 15) && t.bytes().all(|b| !b.is_ascii_uppercase()),
            "the interface's key in config.xml, such as `lan` or `opt1`, not its description",
        );
        let default = Opnsense::on(&interface);
        Opnsense {
            version: self.opnsense_version(&raw.version),
            sequence: self.number(raw.sequence.as_ref(), default.sequence, SEQUENCE),
            prefix: self.maybe(
                &raw.prefix,
                &default.prefix,
                |t| is_word(t, 10),
                "a letter, then letters, digits or `_`, at most 10",
            ),
            resolve: self.choice(&raw.resolve, &ResolveAt::NAMES, default.resolve),
            denied: self.denied(&raw.denied),
            interface,
        }
    }

    /// A point release counts as its series: what is accepted differs by series alone.
    fn opnsense_version(&mut self, raw: &Spanned<String>) -> OpnsenseVersion {
        let series = raw.value.splitn(3, '.').take(2).collect::<Vec<_>>().join(".");
        let series = Spanned { value: series, range: raw.range.clone() };
        self.choice(&Some(series), &OpnsenseVersion::NAMES, OpnsenseVersion::V26_1)
    }

    fn lists(&mut self, raw: &RawLists) -> Lists {
        let default = Lists::default();
        Lists {
            hold: self.choice(&raw.hold, &Hold::NAMES, default.hold),
            comments: self.choice(&raw.comments, &Comments::NAMES, default.comments),
        }
    }

    fn cilium(&mut self, raw: &RawCilium) -> Cilium {
        let name = "lower case letters, digits and `-`, at most 63";
        let namespace = self.fit(&raw.namespace, is_dns_label, name);
        let default = Cilium::on(&namespace);
        let origins = &raw.origins;
        self.some(origins, "name the origins whose rules the pods get: `nas`, `jail`, `app`");
        Cilium {
            name: self.maybe(&raw.name, &default.name, is_dns_label, name),
            endpoints: self.labels(&raw.endpoints),
            origins: (origins.value.iter())
                .map(|word| self.choice(&Some(word.clone()), &PodOrigin::NAMES, Origin::Nas))
                .collect(),
            dns_namespace: self.maybe(&raw.dns_namespace, &default.dns_namespace, is_dns_label, name),
            dns_endpoints: raw.dns_endpoints.as_ref().map_or(default.dns_endpoints, |raw| self.labels(raw)),
            search: raw.search.as_ref().map_or(default.search, |raw| self.domains(raw)),
            namespace,
        }
    }

    /// Nothing chosen would be everything in the namespace.
    fn some(&mut self, raw: &Words, help: &str) {
        if raw.value.is_empty() {
            self.fail(raw, "an empty list cannot be used here".to_owned(), help);
        }
    }

    fn labels(&mut self, raw: &Words) -> BTreeMap<String, String> {
        let help = "labels as `kubectl -l` takes them, such as `app=recorder`: letters, digits, `-`, `_` and `.`";
        self.some(raw, help);
        let mut labels: BTreeMap<String, String> = BTreeMap::new();
        for word in &raw.value {
            match label(&word.value) {
                Some((key, value)) if labels.get(&key).is_none_or(|other| *other == value) => {
                    labels.insert(key, value);
                }
                Some((key, _)) => {
                    self.fail(word, format!("label `{key}` is named twice"), "a pod has one value for a label");
                }
                None => _ = self.fit(word, |_| false, help),
            }
        }
        labels
    }

    fn domains(&mut self, raw: &Words) -> Vec<String> {
        let help = "a domain of the cluster itself, such as `cluster.local`: at least two labels in lower case";
        let good = |text: &str| text.contains('.') && text.len() <= 250 && is_dns_name(text);
        let domains: BTreeSet<String> = raw.value.iter().map(|word| self.fit(word, good, help)).collect();
        domains.into_iter().collect()
    }

    fn name_server(&mut self, raw: &RawNameServer) -> NameServer {
        NameServer { pins: self.choice(&raw.pins, &Pins::NAMES, Pins::default()) }
    }

    fn rpz(&mut self, raw: &RawRpz) -> Rpz {
        let default = Rpz::default();
        Rpz {
            zone: raw.zone.as_ref().and_then(|raw| self.host(raw)).map_or(default.zone, |zone| zone.to_string()),
            pins: self.choice(&raw.pins, &Pins::NAMES, default.pins),
        }
    }

    fn squid(&mut self, raw: &RawSquid) -> Squid {
        let default = Squid::default();
        let path = "an absolute path of letters, digits, `_`, `.` and `-`, without a final `/`";
        let port = self.number(raw.port.as_ref(), default.port, PORT);
        Squid {
            certificate: self.maybe(&raw.certificate, &default.certificate, is_path, path),
            lists: self.maybe(&raw.lists, &default.lists, is_path, path),
            intercept: raw.intercept.as_ref().map(|raw_ports| self.intercept(raw_ports, raw.port.as_ref(), port)),
            decrypt: raw.decrypt.as_ref().map(|raw| {
                if raw.paths.value.is_empty() {
                    self.fail(&raw.paths, "no path is named".to_owned(), "take `decrypt` out, or name what is let out");
                }
                Decrypt {
                    ca: self.maybe(&raw.ca, CA, is_path, path),
                    paths: raw.paths.value.iter().filter_map(|prefix| self.url_prefix(prefix)).collect(),
                }
            }),
            pac: raw.pac.as_ref().and_then(|raw| self.host(raw)),
            port,
        }
    }

    /// Three ports, each of its own: Squid opens only the first of two on one number.
    fn intercept(&mut self, raw: &RawIntercept, port: Option<&Spanned<i64>>, taken: u16) -> Intercept {
        let default = Intercept::default();
        let ports = Intercept {
            http: self.number(raw.http.as_ref(), default.http, PORT),
            https: self.number(raw.https.as_ref(), default.https, PORT),
        };
        let twice = [ports.http == ports.https, ports.http == taken, ports.https == taken].contains(&true);
        // One of two that are the same was written, for the defaults differ.
        if twice && let Some(at) = raw.https.as_ref().or(raw.http.as_ref()).or(port) {
            self.fail(
                at,
                format!("one port of {taken}, {} and {} would be opened twice", ports.http, ports.https),
                "`port`, `intercept.http` and `intercept.https` are three different ports",
            );
        }
        ports
    }

    fn host(&mut self, raw: &Spanned<String>) -> Option<Host> {
        let fault = match Host::parse(&raw.value) {
            Ok(host) => return Some(host),
            Err(fault) => fault,
        };
        let message = format!("`{}` {fault}", crate::text::quoted(&raw.value));
        self.findings.push(Diagnostic::new(Code::BadHost, message).at(raw.span(self.source), ""));
        None
    }

    fn url_prefix(&mut self, raw: &Spanned<String>) -> Option<UrlPrefix> {
        let (name, path) = raw.value.split_at(raw.value.find('/').unwrap_or(raw.value.len()));
        if !is_url_path(path) {
            self.fail(
                raw,
                format!("`{}` is no host and path", crate::text::quoted(&raw.value)),
                "a host name and a path that ends in `/`, such as `git.example.org/team/`: between slashes letters, \
                 digits, `_`, `.` and `-`, at most 100 characters",
            );
            return None;
        }
        let host = self.host(&Spanned { value: name.to_owned(), range: raw.range.clone() })?;
        Some(UrlPrefix { host, path: path.to_owned(), span: raw.span(self.source) })
    }
}
