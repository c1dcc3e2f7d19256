//! What can be set, as text: clap finds it on the command line or in the environment, and `config` checks what it says.
//! Nothing is checked here, so that all mistakes can be told at once. A field's comment is its help text.

use std::ffi::OsString;

use clap::Args;

const CLUSTER: &str = "Cluster";
const DOOR: &str = "Closed doors";
const TASKS: &str = "Tasks";
const STATE: &str = "State";
const PROCESS: &str = "Process";
const SWITCH: &str = "true|false";

/// What `run` is told, as it was typed.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// Name of this worker in the cluster: letters, digits, '_', '.', '-'.
    #[arg(long, value_name = "NAME", env = "WORKER_NODE_ID", default_value = "worker-1", help_heading = CLUSTER)]
    pub id: String,

    /// Where the master reaches this machine: a host, or host:port where the port is not that of --port.
    #[arg(long, value_name = "HOST[:PORT]", env = "WORKER_NODE_IP", default_value = "localhost", help_heading = CLUSTER)]
    pub ip: String,

    /// The master.
    #[arg(long, value_name = "HOST:PORT", env = "WORKER_NODE_MASTER", default_value = "localhost:50051", help_heading = CLUSTER)]
    pub master: String,

    /// Where to listen: a port, :port or address:port; port 0 takes a free one.
    #[arg(long, value_name = "[ADDRESS]:PORT", env = "WORKER_NODE_PORT", default_value = ":50052", help_heading = CLUSTER)]
    pub port: String,

    /// Stay with --master, whatever address a master announces.
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_PIN_MASTER", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = CLUSTER)]
    pub pin_master: String,

    /// Least time between accepting a task and reporting its result; auto: 250ms, or more while the master is slow.
    #[arg(long, value_name = "auto|TIME", env = "WORKER_NODE_SETTLE_TIME", default_value = "auto", help_heading = CLUSTER)]
    pub settle_time: String,

    /// An upload of output files that makes no progress for this long has failed, and is tried again.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_UPLOAD_INACTIVITY", default_value = "1m", help_heading = CLUSTER)]
    pub upload_inactivity: String,

    /// An upload takes no longer than this in all; after three failures the result is reported without the files.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_UPLOAD_TOTAL", default_value = "30m", help_heading = CLUSTER)]
    pub upload_total: String,

    /// How long to wait for the master's answer to a result; one that does not come leaves it in doubt whether it arrived.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_REPORT_TIMEOUT", default_value = "1m", help_heading = CLUSTER)]
    pub report_timeout: String,

    /// A result in doubt is sent once more after this time; one that is in doubt again waits for the master's next registration.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_REPORT_DOUBT", default_value = "5m", help_heading = CLUSTER)]
    pub report_doubt: String,

    /// Tell clients at --port which methods and messages there are (gRPC server reflection), as grpcurl asks.
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_REFLECTION", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = CLUSTER)]
    pub reflection: String,

    /// Who may connect to --port: auto (all but the tasks' containers), any, master (what its name resolves to), addresses or networks,
    /// with commas between them; the master always may.
    #[arg(long, value_name = "auto|any|master|NETWORK[,..]", env = "WORKER_NODE_ALLOW_FROM", default_value = "auto", help_heading = DOOR)]
    pub allow_from: String,

    /// This worker's certificate with its chain, in PEM: --port speaks TLS with it, and the master is shown it. Read again when it
    /// changes, and on SIGHUP, as are the files of the other flags here.
    #[arg(long, value_name = "FILE", env = "WORKER_NODE_TLS_CERT", help_heading = DOOR)]
    pub tls_cert: Option<OsString>,

    /// The certificate's key, in PEM; nobody else may read it (chmod 600).
    #[arg(long, value_name = "FILE", env = "WORKER_NODE_TLS_KEY", help_heading = DOOR)]
    pub tls_key: Option<OsString>,

    /// Authorities, in PEM: with --tls-cert, whoever calls must show a certificate of one of them; with --master-tls, the master too.
    #[arg(long, value_name = "FILE", env = "WORKER_NODE_TLS_CA", help_heading = DOOR)]
    pub tls_ca: Option<OsString>,

    /// Call the master by TLS, and only if its certificate is for the name in --master and by --tls-ca (without it: by an authority of
    /// this machine).
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_MASTER_TLS", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = DOOR)]
    pub master_tls: String,

    /// A name in the certificate of those who may assign, cancel and move, others may read logs; may be given more than once
    /// [default: every certificate of --tls-ca will do]
    #[arg(long = "allow-master-name", value_name = "NAME", env = "WORKER_NODE_ALLOW_MASTER_NAME", value_delimiter = ',', help_heading = DOOR)]
    pub allow_master_names: Vec<String>,

    /// A file with a token that callers must show (authorization: Bearer TOKEN), and that this worker shows to its master; nobody else
    /// may read it (chmod 600).
    #[arg(long, value_name = "FILE", env = "WORKER_NODE_TOKEN_FILE", help_heading = DOOR)]
    pub token_file: Option<OsString>,

    /// How long the token of before is good when another one is put into its file.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_TOKEN_OVERLAP", default_value = "10m", help_heading = DOOR)]
    pub token_overlap: String,

    /// Have the token sent without TLS: whoever sees the network has it then.
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_TOKEN_IN_CLEAR", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = DOOR)]
    pub token_in_clear: String,

    /// The container engine: unix:///path or tcp://host:port [default: DOCKER_HOST, else unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS", env = "WORKER_NODE_ENGINE", help_heading = TASKS)]
    pub engine: Option<String>,

    /// Go on with another engine than before, which is gone for good: tasks that have begun on it are told as lost.
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_ACCEPT_NEW_ENGINE", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = TASKS)]
    pub accept_new_engine: String,

    /// How many tasks may be here at once.
    #[arg(long, value_name = "N", env = "WORKER_NODE_MAX_TASKS", allow_negative_numbers = true, default_value = "256", help_heading = TASKS)]
    pub max_tasks: String,

    /// How many cores are kept for the system, such as 0.5: tasks, and the master, are told of the rest alone.
    #[arg(long, value_name = "CORES", env = "WORKER_NODE_RESERVE_CPU", allow_negative_numbers = true, default_value = "0", help_heading = TASKS)]
    pub reserve_cpu: String,

    /// How much memory is kept for the system, likewise.
    #[arg(long, value_name = "SIZE", env = "WORKER_NODE_RESERVE_MEMORY", allow_negative_numbers = true, default_value = "0", help_heading = TASKS)]
    pub reserve_memory: String,

    /// Whether what a task asks for is a limit for its container, or only set aside for it.
    #[arg(long, value_name = "enforce|reserve", env = "WORKER_NODE_LIMITS", default_value = "enforce", help_heading = TASKS)]
    pub limits: String,

    /// When to pull a task's image: auto pulls what is missing, and asks the registry again for a tag latest or none; where that
    /// cannot be asked, what is here is used.
    #[arg(long, value_name = "auto|missing|always|never", env = "WORKER_NODE_PULL", default_value = "auto", help_heading = TASKS)]
    pub pull: String,

    /// Which images may run, by their full names, such as docker.io/library/*; may be given more than once [default: all]
    #[arg(long = "allow-image", value_name = "PATTERN", env = "WORKER_NODE_ALLOW_IMAGE", value_delimiter = ',', help_heading = TASKS)]
    pub allow_images: Vec<String>,

    /// Run images by their digest alone (name@sha256:...).
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_REQUIRE_DIGEST", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = TASKS)]
    pub require_digest: String,

    /// The network that tasks get, by the engine's name for it, such as none or host [default: the engine's own]
    #[arg(long, value_name = "NAME", env = "WORKER_NODE_NETWORK", help_heading = TASKS)]
    pub network: Option<String>,

    /// How many processes and threads a task may have at once.
    #[arg(long, value_name = "N", env = "WORKER_NODE_TASK_PIDS", allow_negative_numbers = true, default_value = "4096", help_heading = TASKS)]
    pub task_pids: String,

    /// What tasks may do: default (the engine's capabilities without NET_RAW and MKNOD) or restricted (a short list of them, and
    /// no-new-privileges: no sudo).
    #[arg(long, value_name = "default|restricted", env = "WORKER_NODE_PRIVILEGES", default_value = "default", help_heading = TASKS)]
    pub privileges: String,

    /// A capability that tasks get beside those, such as SYS_PTRACE, or ALL; may be given more than once.
    #[arg(long, value_name = "NAME", env = "WORKER_NODE_CAP_ADD", value_delimiter = ',', help_heading = TASKS)]
    pub cap_add: Vec<String>,

    /// A capability that is taken from tasks, or ALL; may be given more than once.
    #[arg(long, value_name = "NAME", env = "WORKER_NODE_CAP_DROP", value_delimiter = ',', help_heading = TASKS)]
    pub cap_drop: Vec<String>,

    /// A limit of each process of a task, such as nofile=4096:65536, -1 for none; may be given more than once [default: core=0, else
    /// the engine's own]
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]", env = "WORKER_NODE_ULIMIT", value_delimiter = ',', help_heading = TASKS)]
    pub ulimits: Vec<String>,

    /// How long a task may take to end by itself after SIGTERM.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_STOP_GRACE", default_value = "10s", help_heading = TASKS)]
    pub stop_grace: String,

    /// How many of a task's output files are uploaded: the first by their paths.
    #[arg(long, value_name = "N", env = "WORKER_NODE_OUTPUT_FILES", default_value = "10000", help_heading = TASKS)]
    pub output_files: String,

    /// How large a task's output files may be, all together; those that do not fit are left out.
    #[arg(long, value_name = "SIZE", env = "WORKER_NODE_OUTPUT_BYTES", default_value = "10GiB", help_heading = TASKS)]
    pub output_bytes: String,

    /// How much of a running container's output the engine keeps beside ours: as much may be printed while no worker runs.
    #[arg(long, value_name = "SIZE", env = "WORKER_NODE_ENGINE_LOG", default_value = "256MiB", help_heading = TASKS)]
    pub engine_log: String,

    /// How long trouble that passes (a registry or a name service that is away, a machine without room) is waited out before a task fails of it.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_PATIENCE", default_value = "10m", help_heading = TASKS)]
    pub patience: String,

    /// Where this worker keeps its state [default: /var/lib/worker-node as root, else the user's XDG state folder]
    #[arg(long, value_name = "FOLDER", env = "WORKER_NODE_STATE_DIR", help_heading = STATE)]
    pub state_dir: Option<OsString>,

    /// How long the log and the record of a finished task are kept.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_RETENTION", default_value = "24h", help_heading = STATE)]
    pub retention: String,

    /// How long a container of this worker that no task knows is left alone before it is removed.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_ORPHAN_GRACE", default_value = "1m", help_heading = STATE)]
    pub orphan_grace: String,

    /// How much of one task's log is kept: its beginning and its end.
    #[arg(long, value_name = "SIZE", env = "WORKER_NODE_SPOOL_CAP", allow_negative_numbers = true, default_value = "1GiB", help_heading = STATE)]
    pub spool_cap: String,

    /// With less free space than this on the disk of the state folder new tasks are refused, and logs are left out with a marker.
    #[arg(long, value_name = "SIZE", env = "WORKER_NODE_DISK_LOW", allow_negative_numbers = true, default_value = "256MiB", help_heading = STATE)]
    pub disk_low: String,

    /// How large the state folder may become, output folders and all: beyond it the logs of finished tasks go, the oldest first, and if that is not enough new tasks are refused.
    #[arg(long, value_name = "SIZE", env = "WORKER_NODE_STATE_CAP", allow_negative_numbers = true, default_value = "100GiB", help_heading = STATE)]
    pub state_cap: String,

    /// An image that was pulled for tasks, and that nothing has used for longer, is removed; 0s: age is no reason.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_IMAGE_MAX_AGE", default_value = "7d", help_heading = STATE)]
    pub image_max_age: String,

    /// With so many percent of the engine's disk in use, images that were pulled for tasks go, the least recently used first; 100:
    /// none does.
    #[arg(long, value_name = "N", env = "WORKER_NODE_IMAGE_GC_HIGH", allow_negative_numbers = true, default_value = "85", help_heading = STATE)]
    pub image_gc_high: String,

    /// Down to so many percent.
    #[arg(long, value_name = "N", env = "WORKER_NODE_IMAGE_GC_LOW", allow_negative_numbers = true, default_value = "80", help_heading = STATE)]
    pub image_gc_low: String,

    /// Where to answer a monitoring system and probes over HTTP (/metrics, /healthz, /readyz), such as 127.0.0.1:9100; beyond this
    /// machine only with --token-file, or --tls-cert and --tls-ca [default: nowhere]
    #[arg(long, value_name = "[ADDRESS]:PORT", env = "WORKER_NODE_HTTP", help_heading = PROCESS)]
    pub http: Option<String>,

    /// Restart a subsystem that failed; without it the first failure ends the process, and tasks run on for the next start.
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_SUPERVISE", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = PROCESS)]
    pub supervise: String,

    /// With --supervise: restarts of one subsystem within the period; a failure beyond them ends the process.
    #[arg(long, value_name = "N", env = "WORKER_NODE_RESTART_INTENSITY", allow_negative_numbers = true, default_value = "5", help_heading = PROCESS)]
    pub restart_intensity: String,

    /// With --supervise: the period in which restarts are counted.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_RESTART_PERIOD", default_value = "30s", help_heading = PROCESS)]
    pub restart_period: String,

    /// With --supervise: how long the second restart in a row waits; the first comes at once, each later one after twice the time.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_RESTART_BACKOFF", default_value = "100ms", help_heading = PROCESS)]
    pub restart_backoff: String,

    /// With --supervise: no restart waits longer than this.
    #[arg(long, value_name = "TIME", env = "WORKER_NODE_RESTART_BACKOFF_MAX", default_value = "10s", help_heading = PROCESS)]
    pub restart_backoff_max: String,

    /// End at once when the engine or the master is away at the start.
    #[arg(long, value_name = SWITCH, env = "WORKER_NODE_FAIL_FAST", default_value = "false", default_missing_value = "true", num_args = 0..=1, require_equals = true, help_heading = PROCESS)]
    pub fail_fast: String,

    /// What becomes of running tasks when this worker is stopped: leave them for the next start, wait for them, or stop them.
    #[arg(long, value_name = "leave|drain|stop", env = "WORKER_NODE_ON_STOP", default_value = "leave", help_heading = PROCESS)]
    pub on_stop: String,

    /// How log lines look. RUST_LOG says which are shown: a name as the lines show it is added to the default
    /// (operator=debug, lifecycle=off), a level alone takes its place (debug). Default:
    /// warn,worker_node=info,lifecycle=info.
    #[arg(long, value_name = "text|json", env = "WORKER_NODE_LOG_FORMAT", default_value = "text", help_heading = PROCESS)]
    pub log_format: String,
}
