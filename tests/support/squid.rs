//! A real Squid with a configuration under test, origins it can reach, and clients that ask through it.
//!
//! All in one namespace that has nothing but loopback: the origins' and the clients' addresses are on it. Or, where
//! connections are turned to Squid, in three: Squid on the router of a [`netns::Lab`]. Squid takes every name from a file
//! of hosts, so a name such as `update.truenas.com` never leads out of here.

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Seek as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::enforcers::{NAMESPACES, require_all};
use super::namespace::{Namespace, said};
use super::netns::{self, address};
pub(crate) use super::question::{Answer, Request};

/// What makes certificates for Squid, where Debian has it.
const CERTGEN: &str = "/usr/lib/squid/security_file_certgen";

const PROXY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/proxy.py");

/// Can a [`SquidLab`] be built here? As [`super::enforcers::require`].
pub(crate) fn ready() -> bool {
    require_all(&["python3", "openssl", "squid", "ip", NAMESPACES])
}

/// Who asks and who answers.
pub(crate) struct World<'a> {
    /// Addresses to ask from.
    pub(crate) clients: &'a [&'a str],
    /// Names and the address of each. What is to be denied belongs here too: a name that does not resolve proves nothing.
    pub(crate) hosts: &'a [(&'a str, &'a str)],
    /// Further addresses that answer, without a name.
    pub(crate) bare: &'a [&'a str],
    /// The ports on which all of them answer, each in TLS, HTTP and neither, whatever the client begins with.
    pub(crate) ports: &'a [u16],
}

/// Origins and clients, and a folder for Squid's files; gone when dropped.
pub(crate) struct SquidLab {
    clients: Vec<IpAddr>,
    names: Vec<String>,
    ports: Vec<u16>,
    token: String,
    origin: Child,
    origin_pipe: Option<ChildStdin>,
    place: Place,
    dir: TempDir,
}

/// Where clients, Squid and origins are.
enum Place {
    /// All in one.
    One(Namespace),
    /// Clients, router, internet.
    Routed(netns::Lab),
}

impl Place {
    fn clients(&self) -> &Namespace {
        match self {
            Self::One(namespace) => namespace,
            Self::Routed(lab) => lab.client(),
        }
    }

    fn proxy(&self) -> &Namespace {
        match self {
            Self::One(namespace) => namespace,
            Self::Routed(lab) => lab.router(),
        }
    }

    fn origins(&self) -> &Namespace {
        match self {
            Self::One(namespace) => namespace,
            Self::Routed(lab) => lab.internet(),
        }
    }

    /// The proxy's addresses, as the clients know it.
    fn addresses(&self) -> [&'static str; 2] {
        match self {
            Self::One(_) => ["127.0.0.1", "::1"],
            Self::Routed(_) => ROUTER,
        }
    }
}

/// The router's own addresses in a routed lab.
pub(crate) const ROUTER: [&str; 2] = ["100.127.255.1", "fdff:6f75:7467:1::1"];

impl SquidLab {
    /// # Panics
    /// If the world holds what is no address, or the same name twice (Squid keeps one address of its hosts file), or if
    /// the lab cannot be built: ask [`ready`] first.
    pub(crate) fn new(world: &World<'_>) -> Self {
        let answering = world.hosts.iter().map(|(_, at)| at).chain(world.bare);
        let mut all: Vec<IpAddr> = answering.chain(world.clients).map(|at| address(at)).collect();
        all.sort_unstable();
        all.dedup();
        let namespace = Namespace::new();
        namespace.configure(&all.iter().map(|one| format!("ip addr add {one} dev lo\n")).collect::<String>());
        Self::at(Place::One(namespace), world)
    }

    /// The same with Squid on a router, on which the clients' connections are turned by this file for nft: `turned`.
    /// Nothing is forwarded. Every address there is answers.
    ///
    /// # Panics
    /// As [`SquidLab::new`]; it needs nft too.
    pub(crate) fn routed(world: &World<'_>, turned: &str) -> Self {
        let lab = netns::Lab::new(world.clients, &["0.0.0.0/0", "::/0"]);
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let closed =
            "table inet closed {\n chain closed {\n  type filter hook forward priority 0; policy drop;\n }\n}\n";
        write!(file, "{turned}{closed}").expect("the rules are written");
        lab.load_nft(file.path()).expect("nft takes the lab's own rules");
        Self::at(Place::Routed(lab), world)
    }

    fn at(place: Place, world: &World<'_>) -> Self {
        let dir = TempDir::new().expect("a temporary folder");
        // Squid gives up root; it has to reach its files, and to write some.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("the folder is ours");
        fs::create_dir(dir.path().join("var")).expect("the folder is ours");
        fs::set_permissions(dir.path().join("var"), Permissions::from_mode(0o777)).expect("the folder is ours");
        make_certificates(dir.path(), world);

        let mut names: Vec<String> = world.hosts.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), world.hosts.len(), "each name once");
        let mut hosts = String::new();
        for (name, at) in world.hosts {
            hosts.push_str(&format!("{} {name}\n", address(at)));
        }
        fs::write(dir.path().join("hosts"), hosts).expect("the hosts file is written");

        let clients: Vec<IpAddr> = world.clients.iter().map(|client| address(client)).collect();
        let answering = world.hosts.iter().map(|(_, at)| at).chain(world.bare);
        let mut origins: Vec<IpAddr> = answering.map(|at| address(at)).collect();
        origins.sort_unstable();
        origins.dedup();
        names.extend(origins.iter().map(IpAddr::to_string));

        let token = random_token();
        let ports: Vec<String> = world.ports.iter().map(u16::to_string).collect();
        let mut command = place.origins().command(600, "python3");
        command.args(["-IS", PROXY, "origin", &token]).args([dir.path().join("origin.pem")]);
        let mut origin =
            command.args(&ports).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("nsenter starts");
        let origin_pipe = origin.stdin.take();
        let stdout = origin.stdout.take().expect("the origin's output is a pipe");
        let lab = Self { clients, names, ports: world.ports.to_vec(), token, origin, origin_pipe, place, dir };
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the origin speaks");
        assert_eq!(line.trim(), "ready", "the origin is up (see its message above)");
        lab.check_origins(&origins);
        lab
    }

    /// Without a proxy, everything answers; so what is denied later is denied by Squid.
    fn check_origins(&self, origins: &[IpAddr]) {
        let mut lines = String::new();
        for origin in origins {
            for port in &self.ports {
                let target = if origin.is_ipv6() { format!("[{origin}]:{port}") } else { format!("{origin}:{port}") };
                lines.push_str(&format!("direct\t{origin}\t{target}\n"));
            }
        }
        for (answer, line) in self.run(self.place.origins(), 0, &lines).iter().zip(lines.lines()) {
            assert_eq!(*answer, Answer::Allowed, "origin does not answer: {line}");
        }
    }

    /// The lab's folder: 0755, on the path of nothing else.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A self-made certificate with its key, for `tls-cert=`.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.dir.path().join("cert.pem")
    }

    /// An authority that the clients trust, certificate and key, for a Squid that opens TLS. Makes the store it needs.
    pub(crate) fn authority(&self) -> PathBuf {
        let store = self.dir().join("var/certificates");
        if !store.exists() {
            let mut certgen = Command::new(CERTGEN);
            said(certgen.args(["-c", "-s"]).arg(&store).args(["-M", "4MB"]).output()).expect("the store is made");
            said(Command::new("chown").args(["-R", "proxy"]).arg(&store).output()).expect("Debian has this user");
        }
        self.dir().join("ca.pem")
    }

    /// Copies the files of a rendered folder (and its folders) into the lab, with texts exchanged: the paths the
    /// rendered files are meant for (`/etc/squid/…`) become paths here. In the new text, `{copy}` stands for the copy's
    /// folder, which is also what is returned.
    ///
    /// # Panics
    /// If one of the texts to exchange is in none of the files: then the copy is not what was meant.
    pub(crate) fn stage(&self, rendered: &Path, exchange: &[(&str, &str)]) -> PathBuf {
        let copy = tempfile::Builder::new().prefix("staged-").tempdir_in(self.dir()).expect("a folder").keep();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).expect("the folder is ours");
        let mut used = vec![false; exchange.len()];
        let path = copy.to_str().expect("temporary folders have plain names");
        let exchange: Vec<(&str, String)> =
            exchange.iter().map(|(from, to)| (*from, to.replace("{copy}", path))).collect();
        stage_into(rendered, &copy, &exchange, &mut used);
        for ((from, _), used) in exchange.iter().zip(used) {
            assert!(used, "{from:?} is in no file under {}", rendered.display());
        }
        copy
    }

    /// `squid -k parse`. Fails with a bad exit code, and with any line of output that a faultless file does not cause.
    ///
    /// Most of Squid's complaints go with exit code 0: a missing list file (ERROR), an overlap (WARNING), a misspelt
    /// `deny` (neither word).
    pub(crate) fn parse(&self, include: &Path) -> Result<(), String> {
        let faultless = self.dir().join("faultless.conf");
        // What is said of ports, certificates and authorities that are as they should be.
        let (certificate, authority) = (self.certificate(), self.dir().join("ca.pem"));
        let own = format!("ssl-bump tls-cert={} generate-host-certificates=off", certificate.display());
        let trusted = format!("ssl-bump tls-cert={} generate-host-certificates=on", authority.display());
        let ports = format!("http_port 3128 {own}\nhttp_port 3129 intercept\nhttps_port 3130 intercept {trusted}");
        fs::write(&faultless, format!("{ports}\nhttp_access deny all\nssl_bump terminate all\n"))
            .expect("it is written");
        let (success, known) = self.parsed(&faultless);
        assert!(success, "squid does not take the harness's own file: {known:?}");
        let (success, found) = self.parsed(include);
        // Ports, counts and times differ.
        let shape = |line: &str| line.replace(|c: char| c.is_ascii_digit(), "");
        let known: Vec<String> = known.iter().map(|line| shape(line)).collect();
        let new: Vec<&str> = found.iter().map(String::as_str).filter(|line| !known.contains(&shape(line))).collect();
        if success && new.is_empty() {
            return Ok(());
        }
        Err(format!("squid -k parse {}:\n{}", if success { "complains" } else { "fails" }, new.join("\n")))
    }

    /// Whether parsing succeeds, and what is said meanwhile: without the time, and without the file read aloud.
    fn parsed(&self, include: &Path) -> (bool, Vec<String>) {
        let main = self.write_main(include);
        let output = self.place.proxy().command(60, "squid").args(["-k", "parse", "-f"]).arg(main).output();
        let output = output.expect("nsenter starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().map(|line| line.split_once("| ").map_or(line, |(_, rest)| rest));
        let lines = lines.filter(|line| !line.starts_with("Processing"));
        (output.status.success(), lines.map(str::to_owned).collect())
    }

    /// Starts Squid with the harness's settings and `include FILE`, whose `http_port` must be `port`. One at a time.
    ///
    /// The error is what Squid wrote, if it does not come up.
    pub(crate) fn start(&self, include: &Path, port: u16) -> Result<Squid<'_>, String> {
        for log in ["access.log", "cache.log"] {
            let _ = fs::remove_file(self.dir().join("var").join(log));
        }
        let main = self.write_main(include);
        let squid = super::enforcers::find("squid").expect("squid is installed");
        let said = self.dir().join("var/said");
        let stderr = File::create(&said).map_err(|error| error.to_string())?;
        // Squid shares memory by names in /dev/shm, the same names for each Squid, and when killed leaves them there: it
        // gets a /dev/shm of its own. The shell says the number it has in its namespace, and becomes Squid.
        let script = "mount -t tmpfs none /dev/shm; echo $$; exec \"$0\" -N -f \"$1\" >&2";
        let mut command = self.place.proxy().command(600, "unshare");
        command.args(["--mount", "sh", "-euc", script]).arg(squid).arg(main);
        let mut process = command.stdout(Stdio::piped()).stderr(stderr).spawn().map_err(|error| error.to_string())?;
        let mut line = String::new();
        let stdout = process.stdout.take().expect("its output is a pipe");
        let read = BufReader::new(stdout).read_line(&mut line);
        let squid = Squid { lab: self, port, process, number: line.trim().to_owned() };
        read.map_err(|error| error.to_string())?;
        squid.wait_for_port().map(|()| squid)
    }

    /// What Squid wrote on its error output and in its log.
    fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.dir().join(name)).unwrap_or_default();
        format!("\n{}{}", read("var/said"), read("var/cache.log"))
    }

    /// The harness's own configuration: where files are, no cache, names from the hosts file. No rule, no port.
    fn write_main(&self, include: &Path) -> PathBuf {
        let dir = self.dir().display();
        let text = format!(
            "pid_filename {dir}/var/squid.pid
cache_log {dir}/var/cache.log
logformat marked %ts.%03tu %6tr %>a %Ss/%03>Hs %<st %rm %ru %[un %Sh/%<a %mt %{{outgate}}note
access_log stdio:{dir}/var/access.log marked
cache_store_log none
coredump_dir {dir}/var
cache deny all
hosts_file {dir}/hosts
dns_nameservers 127.0.0.1
dns_timeout 1 second
visible_hostname outgate.test
shutdown_lifetime 0 seconds
netdb_filename none
pinger_enable off
sslcrtd_program {CERTGEN} -s {dir}/var/certificates -M 4MB
tls_outgoing_options cafile={dir}/origin.crt
include {}
",
            std::path::absolute(include).expect("a path").display()
        );
        let main = self.dir().join("squid.conf");
        fs::write(&main, text).expect("the configuration is written");
        main
    }

    /// Puts lines to proxy.py.
    fn run(&self, namespace: &Namespace, port: u16, lines: &str) -> Vec<Answer> {
        let mut input = tempfile::tempfile().expect("a temporary file");
        input.write_all(lines.as_bytes()).expect("the questions are written");
        input.rewind().expect("the questions can be read");
        let seconds = 30 + u32::try_from(lines.lines().count()).unwrap_or(600);
        let mut command = namespace.command(seconds, "python3");
        command.args(["-IS", PROXY, "ask", &self.token]).args(self.place.addresses()).arg(port.to_string());
        command.arg(self.dir.path().join("ca.crt")).stdin(input);
        let output = said(command.output()).unwrap_or_else(|error| panic!("the questions failed: {error}"));
        let answers: Vec<Answer> = output.lines().map(Answer::parse).collect();
        assert_eq!(answers.len(), lines.lines().count(), "an answer for each question");
        answers
    }
}

impl Drop for SquidLab {
    fn drop(&mut self) {
        drop(self.origin_pipe.take());
        let _ = self.origin.wait();
    }
}

/// A running Squid; killed when dropped.
pub(crate) struct Squid<'lab> {
    lab: &'lab SquidLab,
    port: u16,
    process: Child,
    /// Squid's process number inside the namespace.
    number: String,
}

impl Squid<'_> {
    /// Puts all questions, and tells what came of each, in order.
    ///
    /// # Panics
    /// If a question is from an address that is not in the lab's world, or for a host or port that is not.
    pub(crate) fn ask(&self, requests: &[Request]) -> Vec<Answer> {
        for request in requests {
            assert!(self.lab.clients.contains(&request.client), "{request}: the lab has no such client");
            let target = request.target();
            let (host, port) = match target.rsplit_once(':') {
                Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(0)),
                _ => (target, 80),
            };
            let host = host.to_lowercase();
            let host = host.trim_end_matches('.').trim_start_matches('[').trim_end_matches(']');
            let host = host.parse::<IpAddr>().map_or_else(|_| host.to_owned(), |at| at.to_string());
            let own = ROUTER.contains(&host.as_str());
            assert!(own || self.lab.names.contains(&host), "{request}: nobody there to answer");
            assert!(own || self.lab.ports.contains(&port), "{request}: nobody answers on that port");
        }
        let answers =
            self.lab.run(self.lab.place.clients(), self.port, &requests.iter().map(Request::line).collect::<String>());
        // A Squid that died cuts off too, and has denied nothing.
        assert!(self.listens(), "squid is gone: {}", self.lab.said());
        answers
    }

    /// Asks and compares: a readable line for each answer that is not what it should be. Broken is never right.
    pub(crate) fn surprises(&self, expected: &[(Request, bool)]) -> Vec<String> {
        let requests: Vec<Request> = expected.iter().map(|(request, _)| request.clone()).collect();
        let answers = self.ask(&requests);
        let right = |allow: bool, answer: &Answer| match answer {
            Answer::Allowed => allow,
            Answer::Denied(_) => !allow,
            Answer::Broken(_) => false,
        };
        let wrong = expected.iter().zip(answers).filter(|((_, allow), answer)| !right(*allow, answer));
        wrong
            .map(|((request, allow), answer)| {
                format!("{request}: {answer:?}, should be {}", if *allow { "allowed" } else { "denied" })
            })
            .collect()
    }

    /// Squid's log of requests so far.
    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.lab.dir().join("var/access.log")).unwrap_or_default()
    }

    /// Kills Squid, as the end of this value does.
    pub(crate) fn kill(&self) {
        let mut kill = self.lab.place.proxy().command(5, "sh");
        let _ = kill.args(["-c", "kill -9 \"$0\" 2>/dev/null", &self.number]).status();
    }

    fn wait_for_port(&self) -> Result<(), String> {
        let end = Instant::now() + Duration::from_secs(20);
        while !self.listens() {
            let state = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap_or_default();
            let over = state.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'));
            if over || Instant::now() > end {
                let why = if over { "squid ended" } else { "squid does not listen" };
                return Err(format!("{why}: {}", self.lab.said()));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Whether somebody in the namespace listens on Squid's port, from the kernel's own table.
    fn listens(&self) -> bool {
        let port = format!(":{:04X}", self.port);
        ["tcp", "tcp6"].iter().any(|table| {
            let text =
                fs::read_to_string(format!("/proc/{}/net/{table}", self.lab.place.proxy().pid())).unwrap_or_default();
            text.lines().any(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                fields.get(1).is_some_and(|local| local.ends_with(&port)) && fields.get(3) == Some(&"0A")
            })
        })
    }
}

impl Drop for Squid<'_> {
    fn drop(&mut self) {
        self.kill();
        let _ = self.process.wait();
    }
}

/// Makes what the lab's TLS needs. Worth nothing, so everyone may read it.
///
/// `cert.pem`: key and certificate for `tls-cert=`. `ca.pem`, `ca.crt`: those of an authority for it that clients trust.
/// `origin.pem`: key and certificate of every origin, good for all names of the world but those that begin with `wrong.`;
/// `origin.crt`: who says so.
fn make_certificates(dir: &Path, world: &World<'_>) {
    let at = |name: &str| dir.join(name).to_str().expect("temporary folders have plain names").to_owned();
    let openssl = |line: &str, names: &[String]| {
        let mut openssl = Command::new(super::enforcers::find("openssl").expect("openssl is installed"));
        openssl.args(line.split(' ')).args(names);
        said(openssl.stdin(Stdio::null()).output()).expect("openssl makes a certificate");
    };
    let read = |name: &str| fs::read_to_string(dir.join(name)).expect("openssl wrote it");
    let joined = |name: &str, parts: &[&str]| {
        fs::write(dir.join(name), parts.iter().map(|part| read(part)).collect::<String>()).expect("it is written");
    };
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
    openssl(&format!("{new} -subj /CN=outgate.test -keyout {} -out {}", at("key"), at("crt")), &[]);
    joined("cert.pem", &["key", "crt"]);
    for authority in ["ca", "origin-ca"] {
        let (key, crt) = (at(&format!("{authority}.key")), at(&format!("{authority}.crt")));
        let uses = ["-addext".to_owned(), "keyUsage=critical,keyCertSign,cRLSign".to_owned()];
        openssl(&format!("{new} -subj /CN={authority}.test -keyout {key} -out {crt}"), &uses);
    }
    joined("ca.pem", &["ca.crt", "ca.key"]);
    let good = world.hosts.iter().map(|(name, _)| name).filter(|name| !name.starts_with("wrong."));
    let own = std::iter::once("DNS:origin.test".to_owned());
    let names: Vec<String> = own.chain(good.map(|name| format!("DNS:{name}"))).collect();
    let names = ["-addext".to_owned(), format!("subjectAltName={}", names.join(","))];
    let signed = format!("-CA {} -CAkey {}", at("origin-ca.crt"), at("origin-ca.key"));
    let own = format!("{new} -subj /CN=origin.test -keyout {} -out {} {signed}", at("origin.key"), at("origin-own"));
    openssl(&own, &names);
    joined("origin.pem", &["origin.key", "origin-own"]);
    joined("origin.crt", &["origin-ca.crt"]);
}

fn stage_into(from: &Path, to: &Path, exchange: &[(&str, String)], used: &mut [bool]) {
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("the folder can be read");
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            fs::create_dir(&target).expect("the copy's folder is ours");
            stage_into(&source, &target, exchange, used);
            continue;
        }
        let mut text = fs::read_to_string(&source).expect("rendered files are text");
        for ((from, to), used) in exchange.iter().zip(used.iter_mut()) {
            *used |= text.contains(from);
            text = text.replace(from, to);
        }
        fs::write(target, text).expect("the copy's folder is ours");
    }
}

/// What an origin says to be known by; nobody else can.
fn random_token() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux has it").trim().to_owned()
}
