//! The agent's log: systemd's journal if standard error is connected to it, otherwise lines on standard error.
//!
//! Domain names, device strings, XML and errors of other programs can contain any character. Each event passes
//! [`Escaping`] before it is written, so callers need not escape.

use std::fmt::Debug;
use std::io::{self, IsTerminal, Write};

use domain::printable::Printable;
use tracing::field::{Field, Value, Visit, display};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::{self, MakeWriter, format::debug_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::journald;

/// Starts logging. The journal gets fields beside each line; other outputs get the line, a terminal with time and
/// colour.
pub fn begin() {
    let filter = EnvFilter::try_from_env("VARIANTD_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::registry().with(filter);
    match journald::layer() {
        Some(journal) => log.with(Escaping(journal)).init(),
        None => {
            let terminal = io::stderr().is_terminal();
            log.with(Escaping(lines(io::stderr, terminal))).init();
        }
    }
}

/// A line for each event.
fn lines<S, W>(writer: W, terminal: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer, Writer: Write> + Send + Sync + 'static,
{
    let line = debug_fn(|writer, field, value| match field.name() {
        "message" => write!(writer, "{value:?}"),
        _ => Ok(()),
    });
    let lines = fmt::layer()
        .fmt_fields(line)
        .with_writer(writer)
        .with_target(false)
        .with_ansi(terminal);
    match terminal {
        true => lines.boxed(),
        // systemd, and most collectors of standard error, add the time themselves.
        false => lines.without_time().boxed(),
    }
}

/// Passes events to a layer with the control characters of all values escaped, so that an entry is always one line.
/// Spans are passed unchanged, because ours have no fields.
struct Escaping<L>(L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Escaping<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.0.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.0.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let fields = event.metadata().fields();
        let mut texts = Texts(vec![None; fields.len()]);
        event.record(&mut texts);
        let shown = texts.0.iter().map(|text| {
            let text = text.as_deref().map(Printable);
            text.map(display)
        });
        let shown: Vec<_> = shown.collect();
        let values = shown.iter().map(|text| {
            let value = text.as_ref();
            value.map(|value| value as &dyn Value)
        });
        let values: Vec<_> = values.collect();
        // One value for each field, as tracing's own macros create it.
        let values = fields.value_set_all(&values);
        self.0
            .on_event(&Event::new(event.metadata(), &values), context);
    }
}

/// The values of an event as text, by the index of their fields.
struct Texts(Vec<Option<String>>);

impl Visit for Texts {
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(text) = self.0.get_mut(field.index()) {
            *text = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing::{info, warn};

    use super::*;
    use crate::fixture::Written;

    /// A possible name of a hostile domain or device.
    const HOSTILE: &str = "d\u{9b}31m\u{1b}[2J\r\nERROR forged \u{202e}";
    const SHOWN: &str = r"d\u{9b}31m\u{1b}[2J\u{d}\u{a}ERROR forged \u{202e}";

    /// Collects what the journal's layer would get: each field and its text.
    #[derive(Clone, Default)]
    struct Entries(Arc<Mutex<Vec<(String, String)>>>);

    impl<S: Subscriber> Layer<S> for Entries {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut texts = Texts(vec![None; event.metadata().fields().len()]);
            event.record(&mut texts);
            let names = event.fields().map(|field| field.name().to_owned());
            let entry = names.zip(texts.0.into_iter().flatten());
            self.0.lock().expect("lock").extend(entry);
        }
    }

    #[test]
    fn a_hostile_name_is_escaped_on_one_line() {
        let written = Written::default();
        let writer = written.clone();
        let lines = lines(move || writer.clone(), false);
        let log = tracing_subscriber::registry().with(Escaping(lines));
        with_default(log, || {
            warn!(variantd_domain = HOSTILE, "start of '{HOSTILE}' refused");
            info!("plain größe");
        });
        let expected = format!(" WARN start of '{SHOWN}' refused\n INFO plain größe\n");
        assert_eq!(written.text(), expected);
    }

    #[test]
    fn the_fields_of_the_journal_are_escaped() {
        let entries = Entries::default();
        let log = tracing_subscriber::registry().with(Escaping(entries.clone()));
        let error = io::Error::other(HOSTILE);
        with_default(log, || {
            warn!(variantd_domain = HOSTILE, count = 3, "refused: {error}");
        });
        let mut found = entries.0.lock().expect("lock").clone();
        found.sort();
        let text = |field: &str, text: &str| (field.to_owned(), text.to_owned());
        let expected = [
            text("count", "3"),
            text("message", &format!("refused: {SHOWN}")),
            text("variantd_domain", SHOWN),
        ];
        assert_eq!(found, expected);
    }
}
