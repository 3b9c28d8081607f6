//! KubeVirt's hooks as servers, and the sidecar as the program `onDefineDomain`.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use kubevirt::complete::{Setup, complete};
use kubevirt::node_hook::NodeHook;
use kubevirt::proto::plugins::domain_hook_service_server::DomainHookServiceServer;
use kubevirt::proto::plugins::node_hook_service_server::NodeHookServiceServer;
use kubevirt::server::Sidecar;
use kubevirt::{server, shim, socket};
use planner::target::Target;
use settings::config::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::Router;

/// The name under which KubeVirt's shim calls a program; a link to this program may have it.
const PROGRAM: &str = "onDefineDomain";

/// Completes the domains of KubeVirt's guests with what their GPUs' drivers need, and has their GPUs bound
#[derive(Debug, Parser)]
#[command(name = "variantd-kubevirt", version)]
struct Arguments {
    #[command(flatten)]
    setup: Sources,
    /// Directory in which virt-launcher looks for sockets
    #[arg(long, value_name = "DIR", default_value = "/var/run/kubevirt-hooks")]
    socket_dir: PathBuf,
    #[command(subcommand)]
    form: Option<Form>,
}

#[derive(Debug, Subcommand)]
enum Form {
    /// Serve the domain hook of a KubeVirt plugin, in a container of virt-launcher's pod
    DomainHook {
        /// Socket, as in the Plugin object
        #[arg(
            long,
            value_name = "PATH",
            default_value = "/var/run/kubevirt-plugin/variantd/domain.sock"
        )]
        socket: PathBuf,
    },
    /// Serve the node hook of a KubeVirt plugin, beside the agent of the node
    NodeHook {
        /// Socket, as in the Plugin object
        #[arg(
            long,
            value_name = "PATH",
            default_value = "/var/run/kubevirt-plugin/variantd/node.sock"
        )]
        socket: PathBuf,
        /// Directory that has the node's proc
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
    },
    /// Complete one domain and print it, as KubeVirt's shim calls a program
    #[command(name = PROGRAM)]
    Define {
        /// The VMI as JSON
        #[arg(long)]
        vmi: String,
        /// The domain as XML
        #[arg(long)]
        domain: String,
    },
}

#[derive(Debug, Args)]
struct Sources {
    /// Snapshot of the host, which the agent keeps
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "/run/variantd/host.json"
    )]
    host: PathBuf,
    /// Recipes over the shipped ones; variantd.conf is read beside the directory
    #[arg(long, global = true, value_name = "DIR", default_value = planner::recipe::DIRECTORY)]
    recipes: PathBuf,
    /// libvirt and QEMU in virt-launcher's image, such as libvirt=12.5,qemu=10.1; by default what the snapshot says
    #[arg(long, global = true, value_name = "TARGET")]
    target: Option<Target>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(words(std::env::args_os().collect()));
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            server::say(&format!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}

/// A link with the shim's name selects the subcommand.
fn words(mut words: Vec<OsString>) -> Vec<OsString> {
    let name = words.first().and_then(|word| Path::new(word).file_name());
    if name.is_some_and(|name| name == PROGRAM) {
        words.insert(1, PROGRAM.into());
    }
    words
}

fn run(arguments: Arguments) -> Result<(), String> {
    let (sources, form) = (arguments.setup, arguments.form);
    match form {
        Some(Form::NodeHook { socket, root }) => node_hook(&socket, root),
        Some(Form::DomainHook { socket }) => domain_hook(setup(sources)?, &socket),
        Some(Form::Define { vmi, domain }) => define(&setup(sources)?, &vmi, &domain),
        None => listen(setup(sources)?, &arguments.socket_dir),
    }
}

fn setup(sources: Sources) -> Result<Setup, String> {
    let config = Config::read(&sources.recipes.with_file_name("variantd.conf"));
    let config = config.map_err(|error| error.to_string())?;
    let recipes =
        settings::recipes::load(&sources.recipes).and_then(|all| all.extended(&config.devices));
    Ok(Setup {
        host: sources.host,
        recipes: recipes.map_err(|error| error.to_string())?,
        target: sources.target,
    })
}

fn define(setup: &Setup, vmi: &str, domain: &str) -> Result<(), String> {
    let done = complete(setup, domain.as_bytes(), vmi.as_bytes());
    let done = done.map_err(|refusal| refusal.to_string())?;
    let warning = shim::warning(domain.len(), done.text.len());
    for note in done.notes.iter().chain(&warning) {
        server::say(&format!("note: {} ({})", note.text, note.code));
    }
    print!("{}", done.text);
    Ok(())
}

/// Modes of the sockets: virt-handler runs as root; virt-launcher has the user of our container, or root.
const ROOT: u32 = 0o600;
/// See [`ROOT`].
const POD: u32 = 0o660;

#[tokio::main(flavor = "current_thread")]
async fn domain_hook(setup: Setup, path: &Path) -> Result<(), String> {
    let service = DomainHookServiceServer::new(Sidecar::new(setup));
    serve(path, POD, Server::builder().add_service(service)).await
}

#[tokio::main(flavor = "current_thread")]
async fn node_hook(path: &Path, root: PathBuf) -> Result<(), String> {
    let service = NodeHookServiceServer::new(NodeHook::new(root));
    serve(path, ROOT, Server::builder().add_service(service)).await
}

async fn serve(path: &Path, mode: u32, services: Router) -> Result<(), String> {
    let end = terminated()?;
    let failed = |error: &dyn Display| format!("cannot serve at '{}': {error}", path.display());
    let listener = socket::listen(path, mode).map_err(|error| failed(&error))?;
    server::say(&format!(
        "variantd-kubevirt listens on '{}'",
        path.display()
    ));
    let served = services.serve_with_incoming_shutdown(UnixListenerStream::new(listener), end);
    let served = served.await;
    let _ = socket::forget(path);
    served.map_err(|error| failed(&error))
}

#[tokio::main(flavor = "current_thread")]
async fn listen(setup: Setup, directory: &Path) -> Result<(), String> {
    let served = server::serve(setup, directory, terminated()?).await;
    served.map_err(|error| format!("cannot serve in '{}': {error}", directory.display()))
}

/// Ends with SIGTERM.
fn terminated() -> Result<impl Future<Output = ()>, String> {
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    Ok(async move {
        terminate.recv().await;
    })
}
