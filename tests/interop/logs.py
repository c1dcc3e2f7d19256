"""StreamTaskLogs: chunk by chunk, as the master shows and stores them."""

from concurrent.futures import ThreadPoolExecutor

import cluster_pb2 as pb
import grpc

from expect import Wrong, check, equal, rfc_3339, true
from node import task


@check
def a_log_comes_line_by_line_and_ends_with_a_trailer(stage):
    offer = task("echo one; echo; echo '  three  '; printf unfinished")
    stage.node.assign(offer)

    *lines, last = stage.node.whole_log(offer.task_id)

    contents = [chunk.content for chunk in lines if not chunk.content.startswith("[worker-node]")]
    equal("the lines", contents, ["one", " ", "  three  ", "unfinished"])
    for chunk in lines:
        equal("task_id", chunk.task_id, offer.task_id)
        equal("status", chunk.status, "running")
        equal("is_complete", chunk.is_complete, False)
        rfc_3339("timestamp", chunk.timestamp)
    equal("the last task_id", last.task_id, offer.task_id)
    equal("the last status", (last.is_complete, last.status), (True, "completed"))
    true("the trailer should tell the exit code", "exit code 0" in last.content, last.content)
    rfc_3339("the last timestamp", last.timestamp)


@check
def a_failure_ends_its_log_as_failed(stage):
    offer = task("echo out; echo err >&2; exit 3")
    stage.node.assign(offer)

    *lines, last = stage.node.whole_log(offer.task_id)

    equal("the lines", sorted(chunk.content for chunk in lines), ["err", "out"])
    equal("the last word", (last.is_complete, last.status), (True, "failed"))
    true("the trailer should tell the exit code", "exit code 3" in last.content, last.content)


@check
def lines_come_while_the_task_runs(stage):
    offer = task("echo early; sleep 1000")
    stage.node.assign(offer)

    with stage.node.log_stream(offer.task_id) as stream:
        first = next(chunk for chunk in stream if chunk.content == "early")

    equal("the status", first.status, "running")
    equal("is_complete", first.is_complete, False)
    equal("reports so far", stage.master.reports_of(offer.task_id), [])
    stage.node.cancel(offer.task_id)
    stage.master.wait_report(offer.task_id)


@check
def a_log_can_be_followed_from_the_moment_of_the_answer(stage):
    offers = [task(f"echo {number}") for number in range(8)]
    for number, offer in enumerate(offers):
        stage.node.assign(offer)
        chunks = stage.node.whole_log(offer.task_id)

        equal("the lines", [chunk.content for chunk in chunks[:-1]], [str(number)])


@check
def every_viewer_sees_everything_late_ones_too(stage):
    offer = task("for n in 1 2 3; do echo line $n; done")
    stage.node.assign(offer)

    first = stage.node.whole_log(offer.task_id)
    stage.master.wait_report(offer.task_id)
    late = stage.node.whole_log(offer.task_id)

    equal("the late viewer's log", late, first)
    equal("without following", stage.node.whole_log(offer.task_id, follow=False), first)


@check
def viewers_do_not_disturb_each_other(stage):
    offer = task("n=0; while [ $n -lt 2000 ]; do n=$((n+1)); echo line $n; done")
    stage.node.assign(offer)

    with ThreadPoolExecutor(8) as viewers:
        logs = list(viewers.map(stage.node.whole_log, [offer.task_id] * 8))

    wanted = [f"line {number}" for number in range(1, 2001)]
    for chunks in logs:
        true("each viewer should see each line once", [chunk.content for chunk in chunks[:-1]] == wanted)


@check
def without_following_a_running_log_ends_at_its_present_end(stage):
    offer = task("echo so far; sleep 1000")
    stage.node.assign(offer)
    with stage.node.log_stream(offer.task_id) as stream:
        next(chunk for chunk in stream if chunk.content == "so far")

    chunks = stage.node.whole_log(offer.task_id, follow=False)

    equal("the lines", [chunk.content for chunk in chunks], ["so far"])
    equal("is_complete", chunks[-1].is_complete, False)
    stage.node.cancel(offer.task_id)
    stage.master.wait_report(offer.task_id)


@check
def the_log_of_an_unknown_task_is_an_error_without_a_chunk(stage):
    chunks = []
    try:
        with stage.node.log_stream("task-that-never-was") as stream:
            chunks.extend(stream)
    except grpc.RpcError as error:
        equal("the code", error.code(), grpc.StatusCode.NOT_FOUND)
    else:
        raise Wrong(f"the stream ended without an error, after {chunks}")
    equal("the chunks", chunks, [])


@check
def bytes_that_are_no_text_are_repaired(stage):
    offer = task(r"printf 'a\377b\nc\n'")
    stage.node.assign(offer)

    chunks = stage.node.whole_log(offer.task_id)

    equal("the lines", [chunk.content for chunk in chunks[:-1]], ["a\ufffdb", "c"])
    report = stage.master.wait_report(offer.task_id).result
    true("the report should be repaired too", report.logs.startswith("a\ufffdb\nc\n"), report.logs)


@check
def a_line_of_two_mebibytes_comes_in_marked_parts(stage):
    size = 2 << 20
    offer = task(f"head -c {size} /dev/zero | tr '\\0' x; echo; echo after")
    stage.node.assign(offer)

    *lines, last = stage.node.whole_log(offer.task_id)

    parts = [chunk for chunk in lines if chunk.content.startswith("x")]
    equal("the line", sum(len(part.content) for part in parts), size)
    equal("the marks", [part.continued for part in parts[:-1]], [True] * (len(parts) - 1))
    equal("what comes after", [chunk.content for chunk in lines if chunk not in parts], ["after"])
    true("each part should fit a message", max(map(pb.LogChunk.ByteSize, parts)) < 3_670_016)
    equal("the last word", last.status, "completed")


def pieces_of(chunks):
    """What the chunks of a batched log hold: who wrote it, its offset and its bytes."""
    pieces = []
    for chunk in chunks:
        rest = chunk.data
        for piece in chunk.pieces:
            pieces.append((piece.source, piece.offset, rest[: piece.length]))
            rest = rest[piece.length :]
        equal("what no piece covers", rest, b"")
    return pieces


def bytes_of(chunks, *sources):
    """What these wrote; none: the container."""
    wanted = sources or (pb.LOG_SOURCE_STDOUT, pb.LOG_SOURCE_STDERR)
    return b"".join(data for source, _, data in pieces_of(chunks) if source in wanted)


@check
def batches_carry_every_byte(stage):
    offer = task(r"printf 'a\377b\r10%%\r\000\n'; printf 'err' >&2; printf 'no newline'")
    stage.node.assign(offer)

    *chunks, last = stage.node.whole_log(offer.task_id, batches=True)

    equal("stdout", bytes_of(chunks, pb.LOG_SOURCE_STDOUT), b"a\xffb\r10%\r\0\nno newline")
    equal("stderr", bytes_of(chunks, pb.LOG_SOURCE_STDERR), b"err")
    equal("the contents", {chunk.content for chunk in chunks}, {""})
    equal("the status", {chunk.status for chunk in chunks}, {"running"})
    equal("the last word", (last.is_complete, last.status, last.data), (True, "completed", b""))
    true("each piece should have a time", all(piece.time > 0 for chunk in chunks for piece in chunk.pieces))
    true("the trailer should tell the exit code", "exit code 0" in last.content, last.content)


@check
def a_client_goes_on_where_it_left_off(stage):
    offer = task("seq 1 50000")
    stage.node.assign(offer)
    *chunks, _ = stage.node.whole_log(offer.task_id, batches=True)
    wanted = "".join(f"{number}\n" for number in range(1, 50001)).encode()
    true("the whole log should come", bytes_of(chunks) == wanted)
    # The container writes 4 KiB at a time, and whoever follows it live may get each of them as it comes: 71.
    true("a chunk should hold many lines", len(chunks) <= 100, len(chunks))

    _, offset, data = pieces_of(chunks[:1])[-1]
    *rest, _ = stage.node.whole_log(offer.task_id, batches=True, offset=offset + len(data))

    true("nothing should be missing or come twice", bytes_of(chunks[:1]) + bytes_of(rest) == wanted)
    *nothing, last = stage.node.whole_log(offer.task_id, batches=True, offset=len(wanted) + 1)
    equal("beyond the end", (nothing, last.is_complete), ([], True))


@check
def the_last_lines_come_alone_in_both_forms(stage):
    offer = task("seq 1 1000; seq 1001 2000 >&2")
    stage.node.assign(offer)
    *everything, _ = stage.node.whole_log(offer.task_id)
    equal("the lines", len(everything), 2000)

    out = dict(last_lines=2, only=pb.LOG_SOURCE_STDOUT)
    *lines, _ = stage.node.whole_log(offer.task_id, **out)
    *chunks, _ = stage.node.whole_log(offer.task_id, batches=True, **out)

    equal("as lines", [chunk.content for chunk in lines], ["999", "1000"])
    equal("as bytes", bytes_of(chunks), b"999\n1000\n")


@check
def a_source_that_there_is_not_is_refused(stage):
    offer = task("true")
    stage.node.assign(offer)
    try:
        stage.node.whole_log(offer.task_id, only=7)
    except grpc.RpcError as error:
        equal("the code", error.code(), grpc.StatusCode.INVALID_ARGUMENT)
    else:
        raise Wrong("the log came")
    stage.master.wait_report(offer.task_id)


@check
def a_line_is_what_a_terminal_would_show(stage):
    offer = task(r"printf '10%%\r20%%\r100%%\nwindows\r\n'; printf 'Password: '; exec sleep 1000")
    stage.node.assign(offer)

    seen = []
    with stage.node.log_stream(offer.task_id) as stream:
        for chunk in stream:
            seen.append((chunk.content, chunk.continued))
            if chunk.continued:
                break
    stage.node.cancel(offer.task_id)
    stage.master.wait_report(offer.task_id)
    *lines, _ = stage.node.whole_log(offer.task_id)

    equal("as it came", seen[-3:], [("100%", False), ("windows", False), ("Password: ", True)])
    equal("afterwards", [chunk.content for chunk in lines], ["100%", "windows", "Password: "])
