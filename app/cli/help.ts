/** The CLI in one screen, and completion made from the same table. */

/** verb, what follows it, what it does */
export const VERBS: readonly (readonly [string, string, string])[] = [
  ["run", "[opts] [--] CMD…", "run a command in a machine of its own, then remove the machine"],
  ["new", "[NAME] [opts]", "make a task that stays"],
  ["start", "TASK…", "start its machine"],
  ["stop", "TASK… [--now]", "stop it; works even when the guest hangs"],
  ["pause", "TASK", "freeze it"],
  ["resume", "TASK", "let it go on"],
  ["rm", "TASK… [--discard]", "remove it, with its own disk; refused while changes wait; your folders stay"],
  ["ls", "[--json|-q]", "the tasks there are"],
  ["show", "TASK [--json]", "one task: state, wall, folders, steps of its start"],
  ["folder", "add|set|rm|ls|room TASK DIR[:mode]", "its folders and what it may do in them, also while it runs"],
  ["asks", "[TASK] [-f]", "what tasks asked for that no rule decides, with what allows it; -f asks you here"],
  ["allow", "TASK HOST [opts]", "let a task reach a host, from now on"],
  ["deny", "TASK HOST [opts]", "refuse a host, whatever else allows it"],
  ["policy", "show|test|network|rm|replay|import|export TASK", "the rules of a task: see, try, change"],
  ["secret", "add|ls|rm|test|give|take [TASK] NAME", "keys that work for tasks and never enter them"],
  ["changes", "TASK [--json]", "what it wants to change in your folders"],
  ["diff", "TASK [PATH…]", "what is in those changes"],
  ["apply", "TASK PATH…|--all [--hunks 1,3]", "write changes into your folders"],
  ["discard", "TASK PATH…|--all", "drop changes"],
  ["undo", "TASK", "take the last apply back"],
  ["history", "TASK FILE", "versions kept of a file that tasks overwrote or deleted"],
  ["restore", "TASK FILE[@N]", "bring a version back; --below: everything deleted below a folder"],
  ["shell", "TASK", "a shell in it"],
  ["exec", "TASK [opts] -- CMD…", "a command in it"],
  ["cp", "SRC TASK:PATH | TASK:PATH DEST", "copy a file or folder in or out"],
  ["forward", "TASK 3000[:8080]", "a port of the task's on 127.0.0.1 of this machine, while it runs"],
  ["ssh-config", "[TASK]", "what ssh and editors need to reach it, or all that run"],
  ["logs", "TASK [-f] [--console]", "what its commands wrote, or the guest's console"],
  ["events", "[TASK] [-f] [--since 1h]", "what happened; `events export [TASK]` as JSON lines, `events verify` finds tampering"],
  ["prune", "", "remove the records of one-off runs that are over; tasks and folders stay"],
  ["web", "[--port N] [--no-open]", "the page, on this machine only"],
  ["doctor", "[--json]", "what this host has and lacks, with the fix"],
  ["prove", "[--json]", "a task tries to get out of itself, and what held is told"],
  ["image", "ls|build|verify", "the guest image"],
  ["completion", "bash|zsh|fish [--install]", "print shell completion, or put it where the shell finds it"],
  ["help", "", "this"],
];

const TASK_VERBS = [
  ...["start", "stop", "pause", "resume", "rm", "show", "shell", "exec", "logs", "events", "forward", "ssh-config"],
  ...["changes", "diff", "apply", "discard", "undo", "history", "restore", "asks", "allow", "deny"],
];

/** Verbs with verbs of their own; what follows those is a task, or a file. */
const INNER_VERBS: Readonly<Record<string, string>> = {
  folder: "add set rm ls room",
  policy: "show test network proxy rm replay import export",
  secret: "add ls rm test give take",
};

export function helpText(): string {
  const width = Math.max(...VERBS.map(([verb, rest]) => verb.length + rest.length + 1));
  const lines = VERBS.map(([verb, rest, what]) => `  cloche ${`${verb} ${rest}`.padEnd(width)}  ${what}`);
  return `Cloche gives every task its own small Linux computer. It sees only the folders you pick,
reaches only the hosts you allow, and uses your keys without holding them.

${lines.join("\n")}

options of run and new:
  --share DIR[:review|ro|rw][=/guest/path]   a folder: changes are asked about, read only, or made at once; may be repeated
  --hide-secrets   names that look like secrets are not shown to the task   --no-local-folders
  --name NAME   --cpus N   --memory 2g   --disk 16g   --no-sudo   --env NAME=VALUE   (exec too)
  --network none|models|packages|git|web   hosts by purpose; several with commas; absent: none
  --allow HOST[:PORT]   --deny HOST[:PORT]   --secret NAME   may be repeated
options of run and exec:
  --timeout 30m   -t/-T a terminal, or none   --result FILE   (run only) --keep --ask
options of allow and deny:
  --method GET   --path '/repos/**'   --port N   --for once|run|task|always   --until 2h   --reason TEXT
  allow only: --upgrade (WebSocket)   --opaque (passed on unread)   --credentials guest (keys of the task's own)
  --private CIDR (an address of your network)   --requests N   --bytes 10m
for every task:
  cloche policy proxy [HOST:PORT [--secret NAME] | none]   the proxy of your network that connections leave through
options of secret add:
  --host HOST   --as bearer|x-api-key|basic|header:NAME   --env VAR   --method M   --path P   --query NAME   --in-body
  the value: asked for, or from standard input; or --from-env VAR, --from-file FILE, --from-command CMD… (last); --memory

A command's exit status passes through; 125 is ours, 126 and 127 are the shell's, 128+n a signal's.`;
}

export function completionScript(shell: string): string | undefined {
  const verbs = VERBS.map(([verb]) => verb).join(" ");
  const onTask = TASK_VERBS.join("|");
  const inner = Object.entries(INNER_VERBS);
  switch (shell) {
    case "bash":
      return `_cloche() {
  local word=\${COMP_WORDS[COMP_CWORD]} inner=
  if [ "$COMP_CWORD" -eq 1 ]; then COMPREPLY=($(compgen -W "${verbs}" -- "$word")); return; fi
  case \${COMP_WORDS[1]} in
    ${onTask}) COMPREPLY=($(compgen -W "$(cloche ls -q 2>/dev/null)" -- "$word")); return ;;
${inner.map(([verb, words]) => `    ${verb}) inner="${words}" ;;`).join("\n")}
  esac
  if [ -n "$inner" ] && [ "$COMP_CWORD" -eq 2 ]; then COMPREPLY=($(compgen -W "$inner" -- "$word"))
  elif [ -n "$inner" ] && [ "$COMP_CWORD" -eq 3 ]; then COMPREPLY=($(compgen -W "$(cloche ls -q 2>/dev/null)" -- "$word"))
  else COMPREPLY=($(compgen -f -- "$word")); fi
}
complete -o filenames -F _cloche cloche`;
    case "zsh":
      return `#compdef cloche
_cloche() {
  if (( CURRENT == 2 )); then compadd ${verbs}; return; fi
  local inner=""
  case $words[2] in
    ${onTask}) compadd \${(f)"$(cloche ls -q 2>/dev/null)"}; return ;;
${inner.map(([verb, words]) => `    ${verb}) inner="${words}" ;;`).join("\n")}
  esac
  if [[ -n $inner ]] && (( CURRENT == 3 )); then compadd \${=inner}
  elif [[ -n $inner ]] && (( CURRENT == 4 )); then compadd \${(f)"$(cloche ls -q 2>/dev/null)"}
  else _files; fi
}
# from a file that zsh found by its name, this is the first completion itself
if [[ $funcstack[1] == _cloche ]]; then _cloche "$@"; else compdef _cloche cloche; fi`;
    case "fish":
      return [
        `complete -c cloche -f -n "__fish_use_subcommand" -a "${verbs}"`,
        ...inner.flatMap(([verb, words]) => [
          `complete -c cloche -f -n "__fish_seen_subcommand_from ${verb}; and not __fish_seen_subcommand_from ${words}" -a "${words}"`,
          `complete -c cloche -n "__fish_seen_subcommand_from ${verb}; and __fish_seen_subcommand_from ${words}" -a "(cloche ls -q 2>/dev/null)"`,
        ]),
        `complete -c cloche -f -n "__fish_seen_subcommand_from ${TASK_VERBS.join(" ")}" -a "(cloche ls -q 2>/dev/null)"`,
      ].join("\n");
    default:
      return undefined;
  }
}
