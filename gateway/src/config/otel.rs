//! The standard `OTEL_*` variables. They have no keys in the file: collectors' operators know them by these names.
//!
//! What a variable asks for and the gateway cannot do stops the start: telemetry that goes elsewhere than its
//! operator believes is found out on the day when it is needed.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::fault::Place;
use super::reader::{Reader, Written, nearest, printable};
use super::secret::Secret;
use super::telemetry::{Batches, Destination, Root, Sampler, Telemetry};
use super::tls_files;

/// Audit events that may wait unless the environment says otherwise: as many as the audit log lets wait, about 12 MB.
const LOGS_QUEUE_MAX: usize = 8192;
/// Requests whose spans may wait, as the specification has it.
const SPANS_QUEUE_MAX: usize = 2048;
/// Items of one export, as the specification has it.
const BATCH_MAX: usize = 512;
/// The share of traces that is kept.
const SHARE: f64 = 0.01;
/// The bound of a queue: past it a collector that is away costs gigabytes.
const QUEUE_BOUND: u64 = 1_000_000;

/// A signal's variables; each general one stands where the signal's own is not set.
struct Names {
    path: &'static str,
    exporter: &'static str,
    endpoint: &'static str,
    headers: &'static str,
    timeout: &'static str,
    protocol: &'static str,
    certificate: &'static str,
    compression: &'static str,
}

const GENERAL: Names = Names {
    path: "",
    exporter: "",
    endpoint: "OTEL_EXPORTER_OTLP_ENDPOINT",
    headers: "OTEL_EXPORTER_OTLP_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_TIMEOUT",
    protocol: "OTEL_EXPORTER_OTLP_PROTOCOL",
    certificate: "OTEL_EXPORTER_OTLP_CERTIFICATE",
    compression: "OTEL_EXPORTER_OTLP_COMPRESSION",
};

const LOGS: Names = Names {
    path: "v1/logs",
    exporter: "OTEL_LOGS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
    headers: "OTEL_EXPORTER_OTLP_LOGS_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT",
    protocol: "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL",
    certificate: "OTEL_EXPORTER_OTLP_LOGS_CERTIFICATE",
    compression: "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION",
};

const TRACES: Names = Names {
    path: "v1/traces",
    exporter: "OTEL_TRACES_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    headers: "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    protocol: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
    certificate: "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE",
    compression: "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION",
};

const METRICS: Names = Names {
    path: "v1/metrics",
    exporter: "OTEL_METRICS_EXPORTER",
    endpoint: "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
    headers: "OTEL_EXPORTER_OTLP_METRICS_HEADERS",
    timeout: "OTEL_EXPORTER_OTLP_METRICS_TIMEOUT",
    protocol: "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL",
    certificate: "OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE",
    compression: "OTEL_EXPORTER_OTLP_METRICS_COMPRESSION",
};

/// What is read besides [`Names`].
const OTHERS: [&str; 12] = [
    "OTEL_SDK_DISABLED",
    "OTEL_SERVICE_NAME",
    "OTEL_RESOURCE_ATTRIBUTES",
    "OTEL_TRACES_SAMPLER",
    "OTEL_TRACES_SAMPLER_ARG",
    "OTEL_METRIC_EXPORT_INTERVAL",
    "OTEL_BLRP_MAX_QUEUE_SIZE",
    "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BLRP_SCHEDULE_DELAY",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_BSP_SCHEDULE_DELAY",
];

impl Names {
    fn all(&self) -> [&'static str; 7] {
        [
            self.exporter,
            self.endpoint,
            self.headers,
            self.timeout,
            self.protocol,
            self.certificate,
            self.compression,
        ]
    }
}

impl<'e> Reader<'e> {
    /// The telemetry that the environment asks for; `None` where no signal has a destination. `audited` is whether
    /// audit events may leave at all.
    pub(super) fn telemetry(&mut self, audited: bool) -> Option<Telemetry> {
        let disabled = self.set("OTEL_SDK_DISABLED");
        let words = [("true", true), ("false", false), ("TRUE", true), ("FALSE", false)];
        if self.choice(disabled, &words).unwrap_or(false) {
            return None;
        }
        let logs = self.destination(&LOGS).filter(|_| audited);
        let traces = self.destination(&TRACES);
        let metrics = self.destination(&METRICS);
        if logs.is_none() && traces.is_none() && metrics.is_none() {
            return None;
        }
        self.unread();
        self.in_the_clear([&logs, &traces, &metrics].into_iter().flatten());
        let interval = self.set("OTEL_METRIC_EXPORT_INTERVAL");
        let interval = self.number(interval, 1..=86_400_000).unwrap_or(60_000);
        let blrp =
            ["OTEL_BLRP_MAX_QUEUE_SIZE", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "OTEL_BLRP_SCHEDULE_DELAY"];
        let bsp = ["OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"];
        let seconds = Duration::from_secs;
        let usual = |queue_max, delay| Batches { queue_max, batch_max: BATCH_MAX, delay };
        let log_batches = self.batches(blrp, usual(LOGS_QUEUE_MAX, seconds(1)));
        let span_batches = self.batches(bsp, usual(SPANS_QUEUE_MAX, seconds(5)));
        // Spans that go nowhere are not asked for either: the caller's word passes through.
        let sampler = self.sampler();
        Some(Telemetry {
            sampler: if traces.is_some() { sampler } else { Sampler::default() },
            logs,
            traces,
            metrics,
            log_batches,
            span_batches,
            metrics_every: Duration::from_millis(interval),
            resource: self.resource(),
        })
    }

    /// A variable that is set to something: empty is how compose files spell "not set".
    fn set(&mut self, name: &'static str) -> Option<Written<'e>> {
        if self.is_set_to_something(name) { self.variable(name) } else { None }
    }

    /// The signal's own variable, or the general one.
    fn either(&mut self, own: &'static str, general: &'static str) -> Option<Written<'e>> {
        self.set(own).or_else(|| self.set(general))
    }

    fn destination(&mut self, names: &Names) -> Option<Destination> {
        let exporter = self.set(names.exporter);
        if !self.choice(exporter, &[("otlp", true), ("none", false)]).unwrap_or(true) {
            return None;
        }
        let url = self.endpoint(names)?;
        let protocol = self.either(names.protocol, GENERAL.protocol);
        self.only(protocol, "http/protobuf", "and name the collector's port for it, 4318 by default");
        let compression = self.either(names.compression, GENERAL.compression);
        self.only(compression, "none", "the gateway sends uncompressed");
        let timeout = self.either(names.timeout, GENERAL.timeout);
        let timeout = self.number(timeout, 1..=600_000).unwrap_or(10_000);
        let headers = self.either(names.headers, GENERAL.headers);
        let headers = self.headers(headers);
        let certificate = self.either(names.certificate, GENERAL.certificate);
        let place = certificate.as_ref().map(|written| written.place.clone());
        let certificate = self.path(certificate);
        if let (Some(path), Some(place)) = (&certificate, place)
            && let Err(message) = tls_files::certificates(path)
        {
            self.fault(
                place,
                message,
                "name a PEM file with the authorities that signed the collector's certificate",
            );
        }
        Some(Destination { url, headers, timeout: Duration::from_millis(timeout), certificate })
    }

    fn endpoint(&mut self, names: &Names) -> Option<reqwest::Url> {
        let own = self.set(names.endpoint);
        let whole = own.is_some();
        let written = own.or_else(|| self.set(GENERAL.endpoint));
        let text = self.text(written)?;
        let url = reqwest::Url::parse(text.text).ok().filter(|url| {
            let known = matches!(url.scheme(), "http" | "https") && url.has_host();
            // Credentials in a URL end in logs.
            known && url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
        });
        let Some(mut url) = url else {
            self.fault(
                text.place,
                "it is not the URL of a collector",
                "write `http://host:4318` or `https://…`, and credentials into OTEL_EXPORTER_OTLP_HEADERS",
            );
            return None;
        };
        if !whole {
            let path = format!("{}/{}", url.path().trim_end_matches('/'), names.path);
            url.set_path(&path);
        }
        Some(url)
    }

    /// The only value of a variable that can be honoured.
    fn only(&mut self, written: Option<Written<'e>>, known: &str, why: &str) {
        let Some(text) = self.text(written) else { return };
        if text.text != known {
            let message = format!("`{}` is not spoken", printable(text.text));
            self.fault(text.place, message, format!("set it to `{known}` or unset it; {why}"));
        }
    }

    fn headers(&mut self, written: Option<Written<'e>>) -> Vec<(http::HeaderName, Secret<String>)> {
        let Some(written) = written else { return Vec::new() };
        let place = written.place.clone();
        let checked = |(name, value): (String, String)| {
            let name = http::HeaderName::try_from(name).ok()?;
            http::HeaderValue::try_from(&value).ok()?;
            Some((name, Secret::new(value)))
        };
        let headers = self.pairs(written).and_then(|pairs| pairs.into_iter().map(checked).collect());
        headers.unwrap_or_else(|| {
            self.fault(
                place,
                "it does not hold headers (its text is not shown: it may hold a secret)",
                "write `name=value`, several with commas between, reserved characters as %20",
            );
            Vec::new()
        })
    }

    fn resource(&mut self) -> Vec<(String, String)> {
        let attributes = self.set("OTEL_RESOURCE_ATTRIBUTES");
        let place = Place::Variable("OTEL_RESOURCE_ATTRIBUTES".to_owned());
        let mut resource = match attributes {
            None => Vec::new(),
            Some(written) => self.pairs(written).unwrap_or_else(|| {
                let remedy = "write `key=value`, several with commas between, reserved characters as %20";
                self.fault(place, "it does not hold attributes", remedy);
                Vec::new()
            }),
        };
        let name = self.set("OTEL_SERVICE_NAME");
        let name = self.text(name).map(|text| text.text.to_owned());
        let named =
            resource.iter().position(|(key, _)| key == "service.name").map(|at| resource.remove(at).1);
        let name = name.or(named).unwrap_or_else(|| "cedargate".to_owned());
        resource.insert(0, ("service.name".to_owned(), name));
        resource
    }

    /// `key=value,key=value`, as baggage spells it; `None` where something is none.
    fn pairs(&mut self, written: Written<'e>) -> Option<Vec<(String, String)>> {
        let list = self.list(Some(written))?;
        let pair = |item: Written<'e>| {
            let text = self.text(Some(item))?;
            let (key, value) = text.text.split_once('=')?;
            let key = key.trim_end();
            let value = percent_decode_str(value.trim_start()).decode_utf8().ok()?;
            (!key.is_empty()).then(|| (key.to_owned(), value.into_owned()))
        };
        list.into_iter().map(pair).collect()
    }

    fn sampler(&mut self) -> Sampler {
        let argument = self.set("OTEL_TRACES_SAMPLER_ARG");
        let argument = self.text(argument).and_then(|text| {
            let share = text.text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            if share.is_none() {
                self.fault(text.place, "it is not a share from 0 to 1", "write one, for example 0.01");
            }
            share
        });
        let chosen = self.set("OTEL_TRACES_SAMPLER");
        // A sampler that is named without its argument keeps all, as the specification has it.
        let share = Root::share(argument.unwrap_or(if chosen.is_some() { 1.0 } else { SHARE }));
        let sampler = |follows_caller, root| Sampler { follows_caller, root };
        let words = [
            ("always_on", sampler(false, Root::Always)),
            ("always_off", sampler(false, Root::Never)),
            ("traceidratio", sampler(false, share)),
            ("parentbased_always_on", sampler(true, Root::Always)),
            ("parentbased_always_off", sampler(true, Root::Never)),
            ("parentbased_traceidratio", sampler(true, share)),
        ];
        self.choice(chosen, &words).unwrap_or_else(|| sampler(true, share))
    }

    fn batches(&mut self, [queue, batch, delay]: [&'static str; 3], usual: Batches) -> Batches {
        let count = |number: Option<u64>| number.and_then(|number| usize::try_from(number).ok());
        let queue_max = self.set(queue);
        let queue_max = count(self.number(queue_max, 1..=QUEUE_BOUND)).unwrap_or(usual.queue_max);
        let batch_max = self.set(batch);
        let batch_max = count(self.number(batch_max, 1..=queue_max as u64));
        let delay = self.set(delay);
        let delay = self.number(delay, 0..=3_600_000).map_or(usual.delay, Duration::from_millis);
        Batches { queue_max, batch_max: batch_max.unwrap_or(usual.batch_max).min(queue_max), delay }
    }

    /// What is set for a collector and does nothing: a certificate of ours would be missed, the rest is told.
    fn unread(&mut self) {
        let known: Vec<&str> =
            [GENERAL, LOGS, TRACES, METRICS].iter().flat_map(Names::all).chain(OTHERS).collect();
        let names: Vec<&str> = self.variable_names().filter(|name| name.starts_with("OTEL_")).collect();
        for name in names.into_iter().filter(|name| !known.contains(name)) {
            let ours = name.ends_with("_CLIENT_CERTIFICATE") || name.ends_with("_CLIENT_KEY");
            if ours && self.is_set_to_something(name) {
                self.fault(
                    Place::Variable(printable(name)),
                    "a certificate of our own cannot be shown to a collector yet",
                    "unset it, and let the collector ask for a header: OTEL_EXPORTER_OTLP_HEADERS",
                );
                continue;
            }
            let near = nearest(name, known.iter().copied()).map(|near| format!("; did you mean {near}?"));
            let near = near.unwrap_or_default();
            self.notices.push(format!("{} is set, and nothing here reads it{near}", printable(name)));
        }
    }

    fn in_the_clear<'d>(&mut self, destinations: impl Iterator<Item = &'d Destination>) {
        let near = |host: &str| {
            let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        };
        let mut hosts: Vec<String> = destinations
            .filter(|to| to.url.scheme() == "http")
            .filter_map(|to| to.url.host_str().filter(|host| !near(host)).map(str::to_owned))
            .collect();
        hosts.dedup();
        for host in hosts {
            self.notices
                .push(format!("telemetry and its headers go to {host} unencrypted; `https://` would not"));
        }
    }
}
