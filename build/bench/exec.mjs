// A command in a running task, against the same command started inside the guest plus one round trip over vsock.

import { randomInt } from "node:crypto";
import ssh2 from "ssh2";
import { commandSubsystem, dialGuest } from "../../app/core/guest/index.ts";
import { sleep } from "./place.mjs";
import { formatSplit, median, row } from "./stats.mjs";

const TARGET = 1.5;
const INSIDE = 20;
const HELD = 5;
const PINGS = 20;

/** A vsock echo: what the transport costs, with nothing of ours behind it. */
const echo = `
import socket, sys
s = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
s.bind((socket.VMADDR_CID_ANY, int(sys.argv[1])))
s.listen(1)
c, _ = s.accept()
while (b := c.recv(64)): c.sendall(b)
`;

/**
 * Starts the program N times in the folder as the agent does, by fork and exec, and tells the guest's clock before and after, in s; then
 * the same by a line for a bash of its own, as a program that is not started by its words would need.
 */
const inside = `
cd -- "$1" || exit
program=$(type -P true)
read from _ </proc/uptime
for ((i = 0; i < $2; i++)); do "$program" </dev/null >/dev/null 2>&1 || exit 1; done
read to _ </proc/uptime
line="cd -- $1 || exit 125; exec -- true"
read shell _ </proc/uptime
for ((i = 0; i < $2; i++)); do SHLVL=0 bash -c "$line" </dev/null >/dev/null 2>&1 || exit 1; done
read end _ </proc/uptime
echo $from $to $shell $end
`;

export async function benchExec({ place, rounds, log }) {
  const client = await place.connect();
  const task = await place.task(client);
  const view = await client.call("tasks.get", { task: task.id });
  const words = commandSubsystem({
    argv: [Buffer.from("true")],
    workingDirectory: view.workingDirectory,
    makeWorkingDirectory: true,
    env: {},
  });

  const port = randomInt(10_000, 2 ** 31);
  const server = place.exec(client, task, ["python3", "-c", echo, String(port)]).catch(() => {});
  const ping = await pinger(place.streams(task), port);
  const ssh = await sshClient(place, client, task);

  const all = { process: [], held: [], ssh: [], inside: [], shell: [], ping: [] };
  const took = async (list, work) => {
    const from = performance.now();
    await work();
    list?.push(performance.now() - from);
  };
  for (let round = 0; round <= rounds; round++) {
    log(`exec: round ${round} of ${rounds}${round === 0 ? " (not counted)" : ""}`);
    const into = round === 0 ? {} : all;
    for (let i = 0; i < 2; i++) {
      const { took: ms } = await place.run("exec", task.name, "--", "true");
      into.process?.push(ms);
    }
    for (let i = 0; i < HELD; i++) await took(into.held, () => place.exec(client, task, ["true"]));
    for (let i = 0; i < HELD; i++) await took(into.ssh, () => sshExec(ssh, words));
    for (let i = 0; i < PINGS; i++) await took(into.ping, ping);
    const told = await place.exec(client, task, ["bash", "-c", inside, "inside", view.workingDirectory, String(INSIDE)]);
    const [from, to, shell, end] = told.split(" ").map(Number);
    into.inside?.push(((to - from) * 1000) / INSIDE);
    into.shell?.push(((end - shell) * 1000) / INSIDE);
  }
  ssh.end();
  ping.end();
  client.close();
  await server;

  const floor = all.inside.map((ms) => ms + median(all.ping));
  const made = (name, ours) => row("exec", name, { ours, base: floor, baseName: "inside + ping", target: TARGET });
  const m = Object.fromEntries(Object.entries(all).map(([name, samples]) => [name, median(samples)]));
  return {
    rows: [
      made("true by exec, connection held", all.held),
      made("cloche exec TASK -- true, whole process", all.process),
      row("exec", "vsock ping (1 byte, echo in the guest)", { ours: all.ping }),
      row("exec", "started inside the guest", { ours: all.inside }),
      row("exec", "started inside the guest by a line of bash", { ours: all.shell }),
    ],
    notes: [
      formatSplit("cloche exec TASK -- true, is (differences of medians)", [
        {
          "cloche's process, its connection": m.process - m.held,
          "keeper: ticket, stream, events": m.held - m.ssh,
          "ssh: channel, the guest's session process": m.ssh - m.inside - m.ping,
          "vsock ping": m.ping,
          "the command, as if started inside": m.inside,
        },
      ]),
      `started inside: ${INSIDE} times in a row from a bash loop, by /proc/uptime`,
    ],
    samples: all,
  };
}

/** ssh2 on a raw stream to the guest's sshd, as \`cloche cp\` has it: exec without the keeper's part. */
async function sshClient(place, client, task) {
  const { ticket, user, privateKey } = await client.call("tasks.ssh", { task: task.id, purpose: "ssh" });
  const sock = await place.openStream(ticket);
  const ssh = new ssh2.Client();
  await new Promise((done, failed) => {
    ssh.once("ready", done).once("error", failed);
    ssh.connect({ sock, username: user, privateKey, algorithms: { cipher: ["aes128-gcm@openssh.com"] } });
  });
  return ssh;
}

function sshExec(ssh, words) {
  return new Promise((done, failed) => {
    ssh.subsys(words, (error, channel) => {
      if (error) return failed(error);
      let status;
      channel.on("exit", (code) => (status = code));
      channel.on("close", () => (status === 0 ? done() : failed(new Error(`ssh: status ${status}`))));
      channel.resume();
      channel.stderr.resume();
      channel.end();
    });
  });
}

async function pinger(streams, port) {
  let socket;
  for (let tries = 0; !socket; tries++) {
    socket = await dialGuest(streams, port).catch(() => undefined);
    if (!socket && tries > 100) throw new Error("the echo in the guest does not answer");
    if (!socket) await sleep(100);
  }
  let answered;
  socket.on("data", () => answered());
  const ping = () =>
    new Promise((done) => {
      answered = done;
      socket.write("p");
    });
  ping.end = () => socket.destroy();
  return ping;
}
