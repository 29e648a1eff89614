//! A command in a guest whose output is labelled or captured, as one of several or for a program.

use std::fs::File;
use std::io::{self, BufRead, BufReader, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use serde_json::{Map, Value};
use viridian::machine::code;
use viridian::process::{EndSignals, Marked};

use super::attach::{Outcome, conclude};
use super::drive::{Streams, drive};
use super::frame::Command;
use super::session::Session;
use crate::cli::capture::Captured;

/// The message for a guest that has gone before the command ended.
pub const LOST: &str = "the agent in the guest has gone before the command ended";

/// Maximum length of a line with a label. The rest of a longer one is the next line.
const MAX_LINE: u64 = 64 << 10;

/// The input of a command.
#[derive(Clone, Copy)]
pub enum Input {
    /// That of this process.
    Own,
    None,
}

/// The destination of a command's output.
#[derive(Clone, Copy)]
pub enum Output<'a> {
    /// The standard streams of this process; each line has this name before it.
    Labelled(&'a str),
    /// The result.
    Captured,
}

/// The end of a command.
pub struct Ended {
    /// The exit code.
    pub code: u8,
    /// A message about it.
    pub error: Option<String>,
    /// Standard output and standard error, if they are captured.
    output: Option<[Captured; 2]>,
}

impl Ended {
    /// Returns the end, and the output, as JSON.
    pub fn into_json(self, name: &str) -> Value {
        let mut object = Map::new();
        object.insert("name".into(), name.into());
        object.insert("code".into(), self.code.into());
        for (stream, captured) in ["stdout", "stderr"].into_iter().zip(self.output.into_iter().flatten()) {
            captured.put(stream, &mut object);
        }
        if let Some(error) = self.error {
            object.insert("error".into(), error.into());
        }
        Value::Object(object)
    }
}

/// Runs a command.
///
/// # Errors
/// Returns an error if this process lacks resources, or cannot write its output.
pub fn run(
    connection: &UnixStream,
    command: &Command,
    input: Input,
    output: Output<'_>,
    signals: &EndSignals,
) -> io::Result<Ended> {
    let mut session = match Session::new(command) {
        Ok(session) => session,
        Err(error) => return Ok(Ended { code: code::USAGE, error: Some(error.to_string()), output: None }),
    };
    let nothing = File::open("/dev/null")?;
    let own = io::stdin();
    let input = match input {
        Input::Own => own.as_fd(),
        Input::None => nothing.as_fd(),
    };
    let (read_output, write_output) = io::pipe()?;
    let (read_error, write_error) = io::pipe()?;
    thread::scope(|scope| {
        let read = |stream: PipeReader, sink: fn() -> Box<dyn Write>| {
            move || match output {
                Output::Labelled(name) => label(stream, name, sink).map(|()| Captured::default()),
                Output::Captured => Captured::read(stream),
            }
        };
        let readers = [
            thread::Builder::new().spawn_scoped(scope, read(read_output, || Box::new(io::stdout())))?,
            thread::Builder::new().spawn_scoped(scope, read(read_error, || Box::new(io::stderr())))?,
        ];
        let streams = Streams {
            input: Some(input),
            terminal: None,
            output: Some(write_output.as_fd()),
            error: Some(write_error.as_fd()),
        };
        let result = drive(&mut session, connection, streams, signals, None);
        drop((write_output, write_error));
        let mut captured = readers.map(|reader| Some(reader.join()));
        let mut take = |stream: usize| match captured[stream].take() {
            Some(Ok(result)) => result,
            _ => Err(io::Error::other("this program's own code panicked")),
        };
        let captured = [take(0)?, take(1)?];
        let (outcome, error) = conclude(result, command);
        let (code, error) = match outcome {
            Outcome::Code(code) => (code, error),
            Outcome::Lost => (code::FAILED, Some(LOST.to_owned())),
        };
        Ok(Ended { code, error, output: matches!(output, Output::Captured).then_some(captured) })
    })
}

/// Copies lines, each with a name before it, until nobody reads them.
fn label(stream: impl Read, name: &str, sink: impl Fn() -> Box<dyn Write>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let label = format!("{}: ", Marked(name));
    loop {
        let mut line = label.clone().into_bytes();
        if stream.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if !line.ends_with(b"\n") {
            line.push(b'\n');
        }
        let mut sink = sink();
        match sink.write_all(&line).and_then(|()| sink.flush()) {
            // The command gets a SIGPIPE.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            other => other?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn each_line_has_a_label_and_a_long_one_is_several() {
        let sink = Sink::default();
        label(&b"a\n\nb\xff"[..], "web", || Box::new(sink.clone())).unwrap();
        assert_eq!(*sink.0.lock().unwrap(), b"web: a\nweb: \nweb: b\xff\n");
        let sink = Sink::default();
        label(&vec![b'x'; MAX_LINE as usize + 1][..], "web", || Box::new(sink.clone())).unwrap();
        let lines: Vec<_> = sink.0.lock().unwrap().split(|byte| *byte == b'\n').map(<[u8]>::len).collect();
        assert_eq!(lines, [MAX_LINE as usize + 5, 6, 0]);
    }
}
