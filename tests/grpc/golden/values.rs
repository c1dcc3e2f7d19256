//! What the bytes say, as our code has it; what is ours alone is left out.

use worker_node::proto::{self, mount::Source};

fn text(value: &str) -> String {
    value.to_owned()
}

pub(super) fn info() -> proto::WorkerInfo {
    proto::WorkerInfo {
        worker_id: text("worker-1"),
        worker_ip: text("10.0.0.7:50052"),
        total_cpu: 2.5,
        total_memory: 23.5,
        total_storage: 100.25,
        total_gpu: 1.0,
    }
}

pub(super) fn registered() -> proto::RegisterAck {
    proto::RegisterAck {
        success: true,
        message: text("ok"),
    }
}

pub(super) fn heartbeat() -> proto::Heartbeat {
    let running = |id: &str, status: &str, figures: [f64; 3]| proto::RunningTask {
        task_id: text(id),
        cpu_allocated: figures[0],
        memory_allocated: figures[1],
        status: text(status),
        gpu_allocated: figures[2],
    };
    proto::Heartbeat {
        worker_id: text("worker-1"),
        cpu_usage: 12.5,
        memory_usage: 50.0,
        storage_usage: 0.1,
        running_tasks: vec![
            running("task-1", "running", [0.5, 1.5, 2.0]),
            running("task-2", "queued", [1.0, 0.25, 3.0]),
        ],
        gpu_usage: 75.0,
    }
}

pub(super) fn heartbeat_ack() -> proto::HeartbeatAck {
    proto::HeartbeatAck { success: true }
}

pub(super) fn result() -> proto::TaskResult {
    proto::TaskResult {
        task_id: text("task-1"),
        worker_id: text("worker-1"),
        status: text("success"),
        logs: text("one\nzwei ä\n"),
        result_location: text("/output"),
        output_files: vec![text("a.txt"), text("b/c")],
        ..Default::default()
    }
}

pub(super) fn ack() -> proto::Ack {
    proto::Ack {
        success: true,
        message: text("ok"),
    }
}

pub(super) fn chunk() -> proto::FileChunk {
    proto::FileChunk {
        task_id: text("task-1"),
        user_id: text("ann"),
        task_name: text("job"),
        file_path: text("b/c"),
        data: vec![0, 255, b'\n'],
        is_last_chunk: true,
        is_last_file: true,
        timestamp: 1_764_000_000,
        ..Default::default()
    }
}

pub(super) fn files_ack() -> proto::FileUploadAck {
    proto::FileUploadAck {
        success: true,
        message: text("ok"),
        files_received: 300,
    }
}

pub(super) fn master() -> proto::MasterInfo {
    proto::MasterInfo {
        master_id: text("master-1"),
        master_address: text("10.0.0.1:50051"),
    }
}

pub(super) fn task() -> proto::Task {
    proto::Task {
        task_id: text("task-1"),
        docker_image: text("busybox:1.36"),
        command: text("echo done"),
        req_cpu: 0.5,
        req_memory: 1.5,
        req_storage: 10.0,
        req_gpu: 1.0,
        target_worker_id: text("worker-1"),
        user_id: text("ann"),
        sla_multiplier: 2.0,
        task_type: text("cpu-light"),
        task_name: text("job"),
        submitted_at: 1_764_000_000,
        ..Default::default()
    }
}

pub(super) fn settings() -> proto::TaskSettings {
    let mount = |source, target: &str, read_only| proto::Mount {
        source: Some(source),
        target: text(target),
        read_only,
    };
    let value = |name: &str, value: &str| (text(name), text(value));
    proto::TaskSettings {
        environment: [value("TOKEN", "x=y"), value("A", "1")].into(),
        mounts: vec![
            mount(Source::Volume(text("cache")), "/cache", false),
            mount(Source::Bind(text("/data/sets")), "/data", true),
            mount(Source::Tmpfs(64 << 20), "/scratch", false),
        ],
        network: text("none"),
        ports: vec![text("127.0.0.1:8080:80/tcp"), text("0:53/udp")],
        workdir: text("/w"),
        user: text("7:8"),
        hostname: text("h"),
        extra_hosts: vec![text("r:10.0.0.5")],
        timeout_seconds: 7_200,
        stop_signal: text("SIGINT"),
        stop_grace_seconds: Some(0),
        shm_size_bytes: 1 << 30,
        ulimits: vec![text("nofile=1:2")],
        read_only_root: Some(false),
        cap_add: vec![text("SYS_PTRACE")],
        cap_drop: vec![text("CHOWN")],
        entrypoint: proto::Entrypoint::Keep.into(),
    }
}

pub(super) fn task_ack() -> proto::TaskAck {
    proto::TaskAck {
        success: true,
        message: text("ok"),
    }
}

pub(super) fn task_id() -> proto::TaskId {
    proto::TaskId {
        task_id: text("task-1"),
    }
}

pub(super) fn log_request() -> proto::TaskLogRequest {
    proto::TaskLogRequest {
        task_id: text("task-1"),
        user_id: text("ann"),
        follow: true,
        ..Default::default()
    }
}

pub(super) fn log_chunk() -> proto::LogChunk {
    proto::LogChunk {
        task_id: text("task-1"),
        content: text("one"),
        timestamp: text("2026-11-27T10:00:00.5Z"),
        is_complete: true,
        status: text("completed"),
        ..Default::default()
    }
}
