//! `viridian jobs`.

use serde_json::Value;
use viridian::process::Marked;

use super::{Done, REFUSED, ServiceSocket, print, print_json};
use crate::cli::client::{Failure, PROMPT, Remote};
use crate::cli::progress::Bar;

/// The options of `viridian jobs`.
#[derive(clap::Args)]
#[command(after_help = "\
Starts and stops of machines, copies, attached devices and changes of memory are jobs. A job continues when the command that
has begun it ends. Jobs that have ended are kept for an hour.

Exit codes of wait:
  0    the job is done
  1    it has failed, or was cancelled")]
pub struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,

    #[command(flatten)]
    service: ServiceSocket,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

#[derive(clap::Subcommand)]
enum Action {
    /// List the jobs of the service
    List,
    /// Print a job and its progress
    Show {
        /// The number of the job
        #[arg(value_parser = number)]
        job: u64,
    },
    /// Wait for the end of a job, and show its progress
    Wait {
        /// The number of the job
        #[arg(value_parser = number)]
        job: u64,
    },
    /// Request the end of a job
    Cancel {
        /// The number of the job
        #[arg(value_parser = number)]
        job: u64,
    },
}

/// Parses the number of a job.
fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not the number of a job; viridian jobs lists them"))
}

pub fn run(Arguments { action, service, json }: Arguments) -> Done {
    let service = service.service()?;
    match action.unwrap_or(Action::List) {
        Action::List => {
            let jobs = service.get("/jobs")?["jobs"].take();
            if json {
                print_json(&jobs)?;
            } else {
                for job in jobs.as_array().into_iter().flatten() {
                    print(&format!("{}\n", Marked(&in_words(job))))?;
                }
            }
            Ok(0)
        }
        Action::Show { job } => {
            show(&service.get(&format!("/jobs/{job}"))?, json)?;
            Ok(0)
        }
        Action::Wait { job } => wait(&service, job, json),
        Action::Cancel { job } => {
            let job = service.request("DELETE", &format!("/jobs/{job}"), None, PROMPT)?;
            if json {
                print_json(&job)?;
            }
            Ok(0)
        }
    }
}

/// Prints a job.
fn show(job: &Value, json: bool) -> Result<(), Failure> {
    if json { print_json(job) } else { print(&format!("{}\n", Marked(&in_words(job)))) }
}

/// Follows a job to its end.
fn wait(service: &Remote, job: u64, json: bool) -> Done {
    let mut events = service.stream("GET", &format!("/jobs/{job}/events"), None, PROMPT)?;
    let mut last = Value::Null;
    let mut bar = None;
    while let Some(event) = events.next(None)? {
        last = event;
        if let Some(done) = last["progress"]["done-bytes"].as_u64() {
            let label = || {
                format!(
                    "{} {}",
                    last["kind"].as_str().unwrap_or_default(),
                    last["machine"].as_str().unwrap_or_default()
                )
            };
            bar.get_or_insert_with(|| Bar::new(&label(), !json))
                .show(done, last["progress"]["total-bytes"].as_u64().unwrap_or_default());
        }
    }
    drop(bar);
    if last["state"] == "running" {
        return Err(Failure::Other(REFUSED, "the service has ended, and the job with it".into()));
    }
    show(&last, json)?;
    Ok(if last["state"] == "done" { 0 } else { REFUSED })
}

fn in_words(job: &Value) -> String {
    let text = |key: &str| job[key].as_str().unwrap_or_default();
    let mut words = format!("{}  {} {}  {}", job["job"], text("kind"), text("machine"), text("state"));
    let more = job["problem"]["message"].as_str().unwrap_or_else(|| text("step"));
    if !more.is_empty() && job["state"] != "done" {
        words = format!("{words}: {more}");
    }
    let progress = &job["progress"];
    if let (Some(done), Some(total)) = (progress["done-bytes"].as_u64(), progress["total-bytes"].as_u64())
        && total > 0
    {
        words = format!("{words}, {} %", done.saturating_mul(100) / total);
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_a_line() {
        let mut job = json!({ "job": 7, "kind": "copy", "machine": "web", "state": "running", "step": "copying a to b",
            "progress": { "done-bytes": 1, "total-bytes": 4 } });
        assert_eq!(in_words(&job), "7  copy web  running: copying a to b, 25 %");
        job["state"] = "failed".into();
        job["problem"] = json!({ "message": "full" });
        assert_eq!(in_words(&job), "7  copy web  failed: full, 25 %");
        let stop =
            json!({ "job": 8, "kind": "stop", "machine": "web", "state": "done", "step": "x", "progress": null });
        assert_eq!(in_words(&stop), "8  stop web  done");
    }
}
