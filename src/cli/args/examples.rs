//! The texts below each command's help: its exit codes and examples.

pub(super) const EXAMPLES: &str = "\
Every flag may be written with one dash or two, as for the existing worker.
A flag wins over its environment variable, that over the configuration file (--config), and the file over the default.

Examples:
  worker-node -id worker-1 -ip 10.0.0.7 -master 10.0.0.1:50051
      join the cluster of the master at 10.0.0.1, which reaches this machine at 10.0.0.7:50052
  worker-node run --supervise --on-stop drain --log-format json
      restart failed subsystems, let running tasks finish on SIGTERM, log one JSON object per line

Exit codes:
  0 clean, 1 unexpected, 2 usage, 3 no worker runs there, 69 dependency away with --fail-fast, 70 stop took too long,
  75 try later (state or id in use, port taken, gave up), 77 permission, 78 configuration
";

pub(super) const DEMO_EXAMPLES: &str = "\
Needs nothing but a container engine. Exit codes: 0 all went as it should, 1 something did not,
69 no engine, or the image cannot be had.

Examples:
  worker-node demo
      a few tasks, their logs and their results, in a few seconds; leaves nothing behind
  worker-node demo --keep
      the same, and then stays for tasks from another terminal, such as:
      worker-node demo submit --image busybox -- echo hello
";

pub(super) const SUBMIT_EXAMPLES: &str = "\
The log goes to standard output, what is said about the task to standard error. Ctrl-C cancels the task.
Exit codes: 0 the task succeeded, 1 it failed or was cancelled, 69 no demo runs here.

Examples:
  worker-node demo submit --image busybox -- echo hello
  worker-node demo submit -- 'for n in 1 2 3; do echo $n; sleep 1; done; date > /output/end.txt'
";

pub(super) const CONFIG_EXAMPLES: &str = "\
Exit codes: 0 it can be, 2 a flag or a variable is wrong, 78 the file is.

Examples:
  worker-node config init > /etc/worker-node/config.toml
      a file with every key, its meaning and its default, to be changed
  worker-node config check /etc/worker-node/config.toml
      everything that is wrong with it, each with its line and what to write
  worker-node config show --origin
      what a start here would take, and whether that is from a flag, a variable, the file, or the default
";

pub(super) const DOCTOR_EXAMPLES: &str = "\
Exit codes: 0 nothing is wrong, 1 something is, 78 the configuration file cannot be read.

Examples:
  worker-node doctor
      configuration, rights, state folder, engine, master, port, disk and limits, one line each, with the remedy
  worker-node doctor --master 10.0.0.1:50051
      the same with flags, as a start would be given them
";

pub(super) const PROFILES_EXAMPLES: &str = "\
Exit codes: 0 it is shown, 2 a flag or a variable is wrong, 78 the file is.

Examples:
  worker-node profiles test --image team/trainer:1
      what a task of that image would get, and from which profile
  worker-node profiles test --image team/trainer:1 --type train --user alice --json
      the same of one task of a user, for programs
";

pub(super) const DRAIN_EXAMPLES: &str = "\
Examples:
  worker-node drain --wait
      refuse new tasks, and return when the last one that runs has ended and its result is delivered
  worker-node drain --deadline 30m --wait
      the same, and stop what still runs in half an hour
  worker-node uncordon
      take new tasks again
";

pub(super) const BUNDLE_EXAMPLES: &str = "\
The file is its owner's alone. Tokens, keys and the values of variables are not in it; the ids of tasks, names of images and addresses
are. Exit codes: 0 it is made, 2 there is such a file already.

Examples:
  worker-node bundle worker-1.tar.gz
      what stands in it first: README.txt, with what could not be had and why
";

pub(super) const ACTORS_EXAMPLES: &str = "\
Examples:
  worker-node actors --watch
      the tree of actors, drawn anew every second
  worker-node actors journal
      one of them: how it is kept, its restart budget, its last 20 events
  worker-node actors restart journal
      stop it in good order, start it again, and wait until it runs
";

pub(super) const EVENTS_EXAMPLES: &str = "\
Examples:
  worker-node events -f --since 10m
      the last ten minutes and all that comes, through crashes and restarts of the worker
  worker-node events --actor journal --json
      one actor's life, one JSON object per line
  worker-node events --audit --since 1h
      who changed what in the last hour: by address, certificate, or user of this machine
";

pub(super) const LOGLEVEL_EXAMPLES: &str = "\
What is said is added to what RUST_LOG said at the worker's start, in the same words; a level alone takes the place of the default.
Each order takes the place of the last. Exit codes: 0 done, 2 there is no such name or level, 3 no worker runs there.

Examples:
  worker-node loglevel operator=debug --for 10m
      every line about tasks and the master, for ten minutes
  worker-node loglevel lifecycle=debug,outbox=trace
      the life of every actor, and all that the outbox does, until 'worker-node loglevel reset'
  worker-node loglevel
      what is shown now, and for how long
";

pub(super) const LOGS_EXAMPLES: &str = "\
Examples:
  worker-node logs -f --tail 10 ID
      its last ten lines and all that comes, until it ends
  worker-node logs --stderr --since 10m --timestamps ID
      what it wrote to stderr in the last ten minutes, each line with its time
  worker-node logs --raw ID > file
      its output byte by byte
";

pub(super) const OUTBOX_EXAMPLES: &str = "\
A result that the master refused eight times, or left without an answer twice, is parked: it is tried again every ten minutes
and whenever the master registers the worker. `worker-node state dump` shows what is parked and why.

Examples:
  worker-node outbox retry
      send what is parked again now, after the master was mended
";

pub(super) const RELOAD_EXAMPLES: &str = "\
SIGHUP does the same, and says so in the log. Certificates and token are read again too.
Exit codes: 0 it was read, 3 no worker runs there, 78 it is wrong, and the worker goes on as before.
";

pub(super) const STATE_EXAMPLES: &str = "\
Exit codes: 0 all is sound, 1 something is not, 3 there is no such folder or no worker has run on it, 77 it is another user's.

Examples:
  worker-node state check
      whether journal, logs, history and lock are sound, and what to do where one is not
  worker-node state dump --json
      every task with its phase, outcome and delivery, and all else that is remembered
";

pub(super) const STATUS_EXAMPLES: &str = "\
Exit codes: 0 it is well, 1 it is not, 3 no worker runs there.

Examples:
  worker-node status
      master, engine, tasks, room, results that wait, disk and actors on one screen; what is wrong stands first
  worker-node status --json
      the same for programs
";

pub(super) const TASKS_EXAMPLES: &str = "\
Examples:
  worker-node tasks --watch
      what is under way, drawn anew every second
  worker-node tasks --all
      those that are done too, for as long as they are kept (--retention)
  worker-node tasks ID
      what became of one task: each step with its time, container, outcome, delivery
";

pub(super) const IMAGES_EXAMPLES: &str = "\
An image with times was pulled by the worker, which removes it when nothing has used it for long, or its disk is full
(--image-max-age, --image-gc-high). The others are somebody else's, and stay.

Examples:
  worker-node images
  worker-node images --json
      the same for programs: names, digest, id, bytes, tasks, ours, pulled, used
";

pub(super) const PULL_EXAMPLES: &str = "\
Whether its registry is asked, and for how long, is as for a task (--pull, --patience). Progress goes to standard error, which image it
is by its digest to standard output. Exit codes: 0 it is there, 1 it cannot be had.

Examples:
  worker-node pull registry.example/team/app:1.4
";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  worker-node completions bash > /usr/share/bash-completion/completions/worker-node
  worker-node completions zsh > /usr/share/zsh/vendor-completions/_worker-node
  worker-node completions fish > /usr/share/fish/vendor_completions.d/worker-node.fish
";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  worker-node man /usr/local/share/man/man1
      then `man worker-node`, `man worker-node-drain`
";

pub(super) const INSTALL_EXAMPLES: &str = "\
Nothing is started. A unit that differs from this version's is kept, and this version's is laid beside it as `.new`; your own changes
belong into `systemctl edit worker-node`. The configuration is written where there is none, and never again.
Exit codes: 0 it is installed, 77 only root can do it, 78 a package has installed it, or there is no such user.

Examples:
  sudo worker-node install --dry-run
      what would be written
  sudo worker-node install
      the service as root, who can read the engine's own logs: nothing of a task's log is lost while no worker runs
  sudo worker-node install --user worker
      the service as another user, with the group docker
";

pub(super) const UNINSTALL_EXAMPLES: &str = "\
Exit codes: 0 it is gone, 75 the service runs or tasks have not ended, 77 only root can do it, 78 a package has installed it.

Examples:
  sudo worker-node drain --wait && sudo systemctl disable --now worker-node && sudo worker-node uninstall
      take the worker out of service, stop it, and remove it
  sudo worker-node uninstall --purge
      its configuration, journal, logs and output folders too
";

pub(super) const TOP_EXAMPLES: &str = "\
The worker looks at each container at its start and every 5 s: figures are as old as that at most. CPU is cores kept busy between
the last two looks; MEMORY leaves out the file cache that can be dropped, PEAK does not. Exit codes: 0 shown, 3 no worker runs there.

Examples:
  worker-node top
      the busiest first, again every second, until Ctrl-C
  worker-node top --sort memory --once | head
      the largest ones
  worker-node top --json | jq '.tasks[] | select(.used.cores > 0.9 * .holds.cpu) | .id'
      those at their limit
";
