import { Place } from "./place.mjs"; import ssh2 from "ssh2";
const place=new Place(); const c=await place.connect(); 
try{ const t=await place.task(c);
for(let i=0;i<3;i++){ const {ticket,user,privateKey}=await c.call("tasks.ssh",{task:t.id,purpose:"ssh"}); const sock=await place.openStream(ticket); const s=new ssh2.Client(); const f=performance.now(); const L=[];
await new Promise((d,e)=>{s.once("ready",d).once("error",e); s.connect({sock,username:user,privateKey,algorithms:{kex:["curve25519-sha256"],serverHostKey:["ssh-ed25519"],cipher:["aes128-gcm@openssh.com"],compress:["none"]},debug:m=>L.push([(performance.now()-f).toFixed(0),m.slice(0,90)])})});
console.log("ready",(performance.now()-f).toFixed(0)); if(i!==1)for(const l of L) if(/Remote ident|KEXINIT|ECDH|NEWKEYS|SERVICE|USERAUTH|Local/.test(l[1]))console.log(...l);
 for(let k=0;k<3;k++){const g=performance.now(); const M=[]; await new Promise((d,e)=>s.exec("true",(er,ch)=>{if(er)return e(er);M.push("open+exec ok "+(performance.now()-g).toFixed(0));ch.on("exit",()=>M.push("exit "+(performance.now()-g).toFixed(0)));ch.on("close",d);ch.resume();ch.end()}));console.log("exec",(performance.now()-g).toFixed(0),M.join(", "));}
 s.end(); }
console.log(await place.exec(c,t,["bash","-c","ls -la /usr/lib/cloche /usr/sbin/sshd; ps -ef | tail -20"]));
} finally {await place.end()}
