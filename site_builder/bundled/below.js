import{j as $e,f as W,s as m,l as v,p as C,n as he,t as q,a as g,b as S,r as R,c as _,T,d as j,e as U,g as n,o as I,h as D,i as G,E as f,F as o,k as A,m as K,B as P,q as $,u as M,v as J,w as de,x as E,N as me,y as pe,z as y,H as fe,D as ve,A as X,C as V,G as k,S as x,I as Q,R as be,J as ge,K as _e,L as ye,M as ke,O as Y,P as xe,Q as Se}from"./main.js";const[Te,Me,Oe]=[3,5,3],Z={columns:8};async function Ne(e,t){const a=$e(e,t).filter(({problem:c})=>c==="").slice(0,Te),[s,i]=await Promise.all([W(e),W(e,m.head_search)]),r=[...a.map(({title:c,note:p,href:l})=>({title:c,note:p,href:l})),...s.slice(0,Me).map(c=>({title:c.text,note:C(c.neurons,"neuron"),href:v.search({q:c.text}),face:Ce(c.number)})),...i.slice(0,Oe).map(c=>({title:c.text,note:C(c.neurons,"head"),href:v.search({q:c.text})}))];if(r.length>0)return r;const u=await he(e);return u===""?[]:[{title:u,note:"did you mean this?",href:v.search({q:u})}]}function Ce(e){const{faces:t,pack:a,texts:s}=m.search,i=Math.floor(e/a),r=Math.min(a,s-i*a);return q(`${t}/${g(i)}.webp`,e%a,Z.columns,Math.ceil(r/Z.columns))}var Re=Object.freeze({__proto__:null,suggest:Ne});const je=e=>[O(e.variance_share)?`${j(e.variance_share)} of the feature's variance`:"",O(e.selectivity)?`selectivity ${j(e.selectivity)}`:"",...Le(e)].filter(t=>t!==""),O=e=>e!=null;function z(e){const{heads:t,model_id:a}=_(e);if(t!==null)return t;throw new T(`This atlas has not decomposed the heads of ${e} (${a}).`)}async function w(e){const t=await S(`${z(e).folder}/heads.json.gz`);return{rows:R(t),scores:t.scores}}async function Ae(e,t,a){const{folder:s,layers:i}=z(e);if(!i[t])throw new T(`${e} has ${i.length} attention layers, 0 to ${i.length-1}; there is no layer ${t}.`);if(a>=i[t])throw new T(`Attention layer ${t} of ${e} has ${i[t]} heads, 0 to ${i[t]-1}; there is no head ${a}.`);const[r,u]=await Promise.all([w(e),S(`${s}/${g(t)}.json.gz`)]),c=p=>R(u[p],a);return{row:r.rows.find(p=>p.layer===t&&p.unit===a),all:r.rows,texts:c("texts"),features:c("features"),examples:c("examples"),neurons:c("neurons")}}async function Pe(e,t,a){const{folder:s,reads:i}=z(e);if(Math.floor(a/m.read_pack)>=(i[t]??0))return[];const r=await S(`${s}/reads/${g(t)}-${g(a/m.read_pack)}.json.gz`);return R(r,a)}function ee(e){const t=(m.features?.list??[]).findIndex(a=>a.name===e);if(m.features&&t>=0)return{number:t,entry:m.features.list[t]};throw new T(m.features?`This atlas has no feature \u201C${e}\u201D.`:"This atlas has scored no features.")}async function ze(e){const{number:t}=ee(e),{sets:a}=await S(`${m.features?.folder}/${g(t)}.json.gz`);return a.map(s=>({...s,rows:R(s)}))}const Le=({ablation_effect:e,ablation_margin:t,ablation_flips:a})=>[[O(t)&&`margin ${U(t)} \u03C3`,O(e)&&`accuracy ${U(100*e)} points`].filter(Boolean).join(", ").replace(/^(?=.)/,"ablation: "),`flips ${j(a)} of images`],L=({id:e,name:t,hint:a,children:s})=>n`<section aria-labelledby=${e}><details class="fold">
  <summary><h2 id=${e}>${t}</h2> <span class="note">${a}</span></summary>${s}</details></section>`,[B,te,ae]=[64,8,8];function F(e){const t=_(e).inversions;if(!t)throw new T(`This atlas has no inversions of ${e}.`);return t}const Be=({recipe:e,variant:t})=>({by:e,...t?{v:String(t)}:{}});function se(e,t,a={}){const[s,...i]=t.split("/");return s==="head"?v.headpicture(e,...i,a):v.inversion(e,s,...i,a)}function ne(e){const{folder:t}=F(e);return I(`inversions ${t}`,async()=>{const a=Object.entries(await S(`${t}/index.json.gz`));return a[0][1].map((s,i)=>({at:i,...Object.fromEntries(a.map(([r,u])=>[r,u[i]]))}))})}const Ie=e=>{const t=new Set;return e.filter(({id:a,recipe:s})=>!t.has(`${a} ${s}`)&&t.add(`${a} ${s}`))};async function Ee(e,t){const a=`${F(e).folder}/${g(t/ae)}.images`;return(await I(a,async()=>D(await(await G(a)).arrayBuffer(),a)))[t%ae]}function Fe(e,t,a){const s=Math.floor(t/B),i=Math.ceil(Math.min(B,a-s*B)/te);return q(`${F(e).folder}/${g(s)}.webp`,t%B,te,i)}function He(e,t){const a=s=>s.toLowerCase().normalize("NFKD").replace(/\p{M}/gu,"");return a(t).split(/\s+/).filter(Boolean).every(s=>a(e).includes(s))}const b=e=>e!=null;function We({row:e}){const t=(e.writes_to??[]).filter(a=>a.logit>0).slice(0,3);return t.length===0?null:n`<p class="writes"><${f} name="Writes to" column="writes_to" />: ${t.map((a,s)=>n`${s>0&&", "}${a.name} <b>${K(a.logit)}</b>`)}
    <span class="unit"> logit a unit of activation</span></p>`}function qe({slug:e,row:t}){const a=b(t.writes_to)||b(t.effect_note)||b(t.ablation_effect);return!a&&!b(t.exciting_classes)?null:n`<section aria-labelledby="classes"><h2 id="classes">Classes and effect</h2>
    <div class="columns-2">
      ${b(t.exciting_classes)&&n`<div><h3><${f} name="Images that excite it" column="exciting_classes" /></h3><${De} classes=${t.exciting_classes} /></div>`}
      ${b(t.writes_to)&&n`<div><h3><${f} name="Classes it writes to" column="writes_to" /></h3><${Ge} slug=${e} classes=${t.writes_to} /></div>`}
      ${b(t.effect_note)&&n`<div><h3>Classes it writes to</h3><p class="note">Not shown: ${t.effect_note}.</p></div>`}
    </div>
    ${a&&n`<dl class="figures"><${o} name="Effect of ablation" column="ablation_effect" value=${t.ablation_effect}
      unit=${`\xB1 ${A(t.ablation_se)} logit`} compare=${`${t.ablation_kind}, ${C(t.ablation_images??0,"image")}; ${Ue(t)}`} /></dl>`}
  </section>`}const Ue=({ablation_effect:e,ablation_se:t})=>!b(e)||!b(t)?"":Math.abs(e)<2*t?"not told from 0":e>0?"the correct class loses without this neuron":"the correct class gains without this neuron";function De({classes:e}){const t=Math.max(...e.map(a=>a.mean),1e-9);return n`<table class="bars"><caption>Mean over the images of each class; bars are drawn against the largest.</caption><tbody>${e.map(a=>n`<tr key=${a.name}><th scope="row">${a.name}</th>
    <td class="line"><${P} value=${a.mean/t} /></td><td>${$(a.mean)}</td><td class="note">${C(a.images,"image")}</td></tr>`)}</tbody></table>`}function Ge({slug:e,classes:t}){const a=Ke(e),s=Math.max(...t.map(i=>Math.abs(i.logit)),1e-9);return n`<table class="bars"><caption>Change of the class's logit by a unit of activation; what it lowers is grey, bars are drawn against the largest.</caption><tbody>${t.map(i=>n`<tr key=${i.name} class=${i.logit<0?"lowered":""}><th scope="row">${a[i.name]?n`<a href=${a[i.name]}>${i.name}</a>`:i.name}</th>
    <td class="line"><${P} value=${Math.abs(i.logit)/s} /></td><td>${K(i.logit)}</td></tr>`)}</tbody></table>`}function Ke(e){const{value:t}=M(async()=>_(e).inversions?ne(e).catch(()=>[]):[],[e]);return Object.fromEntries((t??[]).filter(({kind:a})=>a==="class").map(({id:a,target:s})=>[s,se(e,a)]))}const ie=e=>e!=null;function Je({row:e}){if(!ie(e.label_status))return null;const t=e.label_candidates??[];return n`<${L} id="label" name="Label" hint="the texts that were tried, and how readable the neuron is">
    ${t.length>0&&n`<div class="scroll" tabindex="0" role="group" aria-label="Texts that were tried"><table class="candidates"><thead><tr><th scope="col">text</th>
      <th scope="col"><${f} name="score" column="label_score" /></th><th scope="col"><${f} name="z" column="label_z" /></th>
      <th scope="col"><${f} name="held-out AUROC" column="label_auroc" /></th></tr></thead>
      <tbody>${t.map(a=>n`<tr key=${a.text} class=${a.text===e.label?"chosen":""}><th scope="row">${a.text}</th>
        <td>${$(a.score)}</td><td>${$(a.z)}</td><td>${$(a.auroc)}</td></tr>`)}</tbody></table></div>`}
    <dl class="figures">
      <${o} name="Clarity" column="clarity" value=${e.clarity} compare="0 as random crops, 1 all alike" />
      <${o} name="Polysemanticity" column="polysemanticity" value=${e.polysemanticity} compare="0 one meaning" />
      <${o} name="Redundancy" column="redundancy" value=${e.redundancy} compare=${ie(e.twin)&&n`twin: <${Xe} address=${e.twin} />`} />
      <${o} name="Texts compared with" column="label_view" value=${e.label_view==="crop"?"crops":"whole images"} compare=${e.label_view==="crop"?"around the strongest patch":""} />
      <${o} name="List of texts" column="concept_set" value=${n`<code class="hash">${e.concept_set}</code>`} />
      <${o} name="Compared by" column="embedder" value=${n`<code class="hash">${e.embedder}</code>`} />
    </dl><//>`}function Xe({address:e}){const[t,,a,s]=e.split("/");return n`<a href=${v.neuron(t,Number(a),Number(s))}>${J(t,Number(a),Number(s))}</a>`}function Ve({slug:e,layer:t,unit:a}){const{value:s,error:i,stale:r}=M(()=>de(e,t,a),[e,t,a]);if(_(e).layers[t].matches===void 0)return null;if(i)return n`<section><h2>Same in other models</h2><${E} error=${i} /></section>`;const u=r?[]:s??[],c=[...new Set(u.map(d=>d.slug))],p=u.find(d=>d.cluster!==null)?.cluster??null,l=c.map(d=>u.filter(N=>N.slug===d));return n`<section aria-labelledby="matches"><h2 id="matches">Same in other models</h2>
    ${p!==null&&n`<p class="cluster-line">Part of <a href=${v.cluster(p)}>Rosetta cluster ${p}</a>: neurons of
      three or more models, every two of them each other's best counterpart.</p>`}
    <div class="counterparts">${l.filter(([d])=>d.slug!==e).map(d=>n`<${re} key=${d[0].slug} rows=${d} />`)}</div>
    ${l.every(([d])=>d.slug===e)&&!r&&n`<p class="note">${m.models.length===1?"This atlas holds no other model.":"No other model of this atlas was measured on the same images."}</p>`}
    ${l.filter(([d])=>d.slug===e).map(d=>n`<h3 key="own">Near-duplicates in this model</h3>
      <div class="counterparts" key="own tiles">${d.map(N=>n`<${re} key=${N.partner} rows=${[N]} />`)}</div>`)}
    ${u.length>0&&n`<p class="note"><${f} name="Correlation" column="correlation" table="neuron_matches" /> of both activation maps over all places of all probe images;
      the tick is <${f} name="chance" column="threshold" table="neuron_matches" />: what 99 % of the model's neurons stay below when
      images are shuffled. What is not above it may be chance.</p>`}</section>`}function re({rows:[e,...t]}){return n`<${me} slug=${e.slug} layer=${e.layer} unit=${e.partner}>
    ${e.label!==null&&n`<span class="label-small">${e.label}</span>`}
    <${Qe} row=${e} />
    ${t.length>0&&n`<span class="note next">next: ${t.map((a,s)=>n`${s>0&&", "}${pe(a.slug,a.layer,a.partner)?n`<a href=${v.neuron(a.slug,a.layer,a.partner)}>${a.layer}/${a.partner}</a>`:`${a.layer}/${a.partner}`} ${$(a.correlation)}`)}</span>`}
  <//>`}function Qe({row:e}){const t=e.threshold??e.null;return n`<span class="correlation"><span><b>${$(e.correlation)}</b> <span class="unit">chance ${$(t)}</span></span>
    <${P} value=${e.correlation} chance=${t} />
    ${e.mutual===1&&n`<span class="flag">mutual best</span>`}${e.significant===0&&n`<span class="unit">not above chance</span>`}</span>`}const h=e=>e!=null;function Ye({row:e,summary:t,layer:a}){const s=[{name:"start",value:e.activation_start,kind:"start"},{name:"this picture",value:e.activation,kind:"end"},h(e.natural_mean)?{name:"changed a little",value:e.natural_mean,kind:"fresh"}:{name:"recoloured, shifted",value:e.robust_mean,spread:e.robust_std,kind:"fresh",note:`${$(e.robust_mean)} \xB1 ${A(e.robust_std)}`},{name:"best real image",value:e.mean_max,kind:"real"},{name:`layer ${a}`,band:t.quantiles,kind:"layer",note:`median ${$(t.quantiles[2])}`}];return n`${h(e.verdict)&&n`<p class="verdict"><${f} name="verdict" column="verdict"><b>${X(e)}</b> ${tt(e)}<//></p>`}
    <p class="verdict">${st(e)}</p>
    ${V(e)!==null&&n`<p class="verdict"><${f} name="percentile" column="percentile">${Ze(e)}<//></p>`}
    ${h(e.natural_kinds)&&e.natural_kinds.length>0&&n`<${et} kinds=${e.natural_kinds} />`}
    <figure><${ve} label="Activation on one scale" rows=${s} />
    <figcaption>Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${a} holds half, its thin
      part nine tenths of the activations that the ${k(t.described)} pictures of this layer reach.</figcaption></figure>
    <p class="rank">Rank <b>${k(e.rank)}</b> of ${k(t.described)} in its layer by activation.</p>
    ${h(e.rescue)&&n`<p class="rank">Rescued: the first attempt gave no gradient, then <b>${e.rescue}</b> moved it.</p>`}`}function Ze(e){const t=k(e.probe_images),a=r=>h(r)?n`<b>${$(r)}</b> times the best`:"no image fires the neuron",s=n`mean over patches ${a(e.ratio_to_best)}, strongest patch ${a(e.peak_ratio)}`;return{both:n`More than every one of ${t} real images: ${s}.`,mean:n`More than every one of ${t} real images by the mean over patches, not at the strongest patch: ${s}.`,peak:n`More than every one of ${t} real images at the strongest patch, not by the mean over patches: ${s}.`,neither:n`Less than the best of ${t} real images: ${s}. By the mean, more than <b>${$(e.percentile)} %</b> of them.`}[V(e)??"neither"]}const we={shift:"shifted",turn:"turned, zoomed",colour:"recoloured",blur:"blurred",noise:"noisy"};function et({kinds:e}){return n`<p class="note">Kept when ${e.map(({kind:t,kept:a},s)=>n`${s>0&&" \xB7 "}${we[t]??t} <b>${h(a)?y(Math.max(0,a)):"\u2013"}</b>`)}</p>`}const tt=e=>h(e.verdict_reason)?`${e.verdict_reason[0].toUpperCase()}${e.verdict_reason.slice(1)}.`:"";function at({row:e}){if(!h(e.histogram))return null;const t=e.activation_peak??null,a=h(e.fires_on)?n`<${f} name="fires on" column="fires_on">Fires on <b>${y(e.fires_on)}</b> of images<//>`:"Fires on no image: no patch of any probe image is over 0.";return n`<div class="fires-on"><p class="verdict">${a}</p>
    <figure><${fe} histogram=${e.histogram} mark=${t} from=${h(e.fires_on)?e.peak_max/2:null} name="Images by their strongest patch" />
    <figcaption>Images by their strongest patch; heights are square roots of counts.${h(e.fires_on)&&" Blue: over half of the strongest."}
      ${t!==null&&n` The pin is the picture: <b>${$(t)}</b>${h(e.peak_ratio)&&n`, ${$(e.peak_ratio)} times the strongest image`}.`}</figcaption></figure></div>`}function st(e){if(e.status==="inactive")return n`It reaches <b>${$(e.activation)}</b>, from ${$(e.activation_start)} at the start: this neuron did not fire.`;const t=!h(e.verdict)&&h(e.robust_mean)&&e.activation>0?e.robust_mean/e.activation:null;return n`It ${e.activation>e.activation_start?"drives":"brings"} the neuron to <b>${$(e.activation)}</b>, from ${$(e.activation_start)} at the start.${" "}
    ${t!==null&&n`Under ${e.robust_draws} fresh random shifts of place and colour ${t<=0?n`<b>nothing</b> of that remains.`:n`<b>${y(t)}</b> of that ${t<1?"remains":"is reached"}.`}`}`}function nt({row:e,summary:t}){return n`<dl class="figures">${e.status!==null&&n`<${it} row=${e} summary=${t} />`}<${rt} row=${e} /></dl>`}function it({row:e,summary:t}){const a=(s,i)=>h(s)&&i>0?`${y(s/i)} of the clean picture's`:"";return n`<${o} name="Activation" column="activation" value=${e.activation} unit="mean over patches"
        compare=${`median of the layer ${$(t.quantiles[2])}, start ${$(e.activation_start)}`} />
      <${o} name="Strongest patch" column="activation_peak" value=${e.activation_peak} unit="activation"
        compare=${`start ${$(e.activation_start_peak)}`} />
      ${h(e.verdict)&&n`<${o} name="Verdict" column="verdict" value=${e.verdict} compare=${e.verdict_reason} />
      <${o} name="Under natural changes" column="natural_mean" value=${e.natural_mean} unit="mean over patches" compare=${h(e.natural_kept)?`${y(e.natural_kept)} of the stored picture's`:""} />
      <${o} name="Strongest patch, changed" column="natural_peak" value=${e.natural_peak} unit="activation" compare=${h(e.natural_kept_peak)?`${y(e.natural_kept_peak)} of the stored picture's`:""} />`}
      <${o} name="Recoloured and shifted, as published" column="robust_mean" value=${e.robust_mean} unit=${`\xB1 ${A(e.robust_std)}, ${e.robust_draws} draws`}
        compare=${a(e.robust_mean,e.activation)} />
      <${o} name="Strongest patch, so" column="robust_peak" value=${e.robust_peak} unit="activation" compare=${a(e.robust_peak,e.activation_peak)} />
      <${o} name="Picture as stored" column="activation_stored" value=${e.activation_stored} unit="mean over patches" compare=${a(e.activation_stored,e.activation)} />
      <${o} name="Status" column="status" value=${e.status} compare=${`${k(t.active)} active, ${k(t.inactive)} inactive in this layer`} />
      <${o} name="Rescue" column="rescue" value=${e.rescue??"none"} compare=${h(e.rescue)?"":"a neuron with a flat gradient gets another start"} />
      <${o} name="Steps" column="steps" value=${e.steps} unit="steps" compare=${`${k(e.image_steps??0)} forward-backward passes of one image`} />
      <${o} name="Time" column="seconds" value=${e.seconds} unit="s" compare="share of its batch, on the machine of the run" />`}function rt({row:e}){if(!h(e.probe_images))return null;const t=`${k(e.probe_images)} images`;return n`<${o} name="Fires on" column="fires_on" value=${h(e.fires_on)?y(e.fires_on):null} unit="of images" compare=${`of ${t}`} />
    <${o} name="Active patches" column="fraction_active" value=${y(e.fraction_active)} unit="of patch tokens" compare=${`of ${t}`} />
    <${o} name="Best real image" column="mean_max" value=${e.mean_max} unit="mean over patches" compare=${h(e.activation)?`the picture ${$(e.activation)}`:""} />
    <${o} name="Strongest real patch" column="peak_max" value=${e.peak_max} unit="activation" compare=${h(e.activation_peak)?`the picture ${$(e.activation_peak)}`:""} />
    ${h(e.percentile)&&n`<${o} name="Percentile" column="percentile" value=${e.percentile} unit="% of images below the picture" compare=${h(e.ratio_to_best)?`${$(e.ratio_to_best)} times the best image`:""} />
    <${o} name="Ratio at the strongest patch" column="peak_ratio" value=${e.peak_ratio} unit="times the best image" />`}
    <${o} name="Over all patches" column="token_mean" value=${e.token_mean} unit=${`\xB1 ${A(e.token_std)}`} compare="mean and standard deviation" />
    <${o} name="Kurtosis" column="token_kurtosis" value=${e.token_kurtosis} compare="3 for a normal distribution" />
    <${o} name="Quantiles of the strongest patch" column="peak_quantiles" compare="at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 % of images"
      value=${e.peak_quantiles}>${(e.peak_quantiles??[]).map($).join(", ")}<//>`}function ot({slug:e,layer:t,unit:a}){const s=(_(e).heads?.reads.length??0)>0,{value:i,error:r,stale:u}=M(async()=>s?Pe(e,t,a):[],[e,t,a]);if(!s)return null;const c=u?[]:i??[],p=Math.max(...c.map(l=>l.share),1e-9);return n`<section aria-labelledby="readers"><h2 id="readers">Heads that read it</h2>
    ${r&&n`<${E} error=${r} />`}
    ${!u&&!r&&c.length===0&&n`<p class="note">No later attention head reads this neuron: what it adds goes on along the residual path alone.</p>`}
    ${c.length>0&&n`<ol class="ranked">${c.map(l=>n`<li key=${`${l.layer}/${l.head}`}>
        <a class="where" href=${v.head(e,l.layer,l.head)}>layer ${l.layer}, head ${l.head}</a>
        <span class="line"><${P} value=${l.share/p} /></span><b class="value">${j(l.share)}</b>
        <span class=${l.label===null?"said note":"said"}>${l.label===null?"unlabelled":`\u201C${l.label}\u201D`}${l.level!=="direct"&&n` <span class="note">· ${l.level}</span>`}</span></li>`)}</ol>
      <p class="note"><${f} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; bars are drawn against the first.</p>`}</section>`}const ct=(e,t)=>`<iframe src="${new URL(e,document.baseURI.split("#")[0]).href}" title="${t}" width="640" height="300" loading="lazy" style="border: 0"></iframe>`,lt={"{":"\\{","}":"\\}","%":"\\%","&":"\\&",_:"\\_","#":"\\#",$:"\\$"},H=e=>e.replace(/[{}%&_#$]/g,t=>lt[t]);function ut(e,t,a,s=new Date().getFullYear()){const i=t?`${e} (\`\`${t}'')`:e;return`@misc{${e.replace(/[^a-z0-9]+/g,"-")},
  title        = {${H(i)}},
  howpublished = {\\url{${location.href}}},
  year         = {${s}},
  note         = {${H(m.title)}, revision ${m.revision}, schema ${m.schema}; model ${H(a.model_id)}, weights SHA-256 ${a.fingerprint}}
}`}function oe({address:e,label:t,model:a,row:s,embed:i}){return n`<${x} title="BibTeX" text=${ut(e,t,a)} />
    <${x} title="In a page of your own" text=${ct(i,e)} wrapped />
    <details><summary>This row as JSON</summary><${x} title=${e} text=${JSON.stringify({address:e,...s},null,1)} /></details>`}const $t=`@article{ghiasi2022vision,
  title   = {What do Vision Transformers Learn? A Visual Exploration},
  author  = {Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and Reich, Steven and Shu, Manli and
             Goldblum, Micah and Wilson, Andrew Gordon and Goldstein, Tom},
  journal = {arXiv preprint arXiv:2212.06727},
  year    = {2022}
}`;function ht(e,t){const a=m.dataset===""?"path/to/atlas":m.dataset;return`from datasets import load_dataset

atlas = ${JSON.stringify(a)}${m.dataset===""?"  # the folder of this atlas, or its hf:// address":""}
shard = f"{atlas}/${e}"
row = load_dataset("parquet", data_files=shard, split="train", filters=[("unit", "==", ${t})])[0]
row["image"], row["activation"], row["robust_mean"]`}function dt({slug:e,layer:t,unit:a,row:s,model:i}){const r=J(e,t,a),u=`${r}, ${m.title}, schema ${m.schema}. Model ${i.model.model_id}, weights SHA-256 ${i.model.fingerprint}. ${s.recipe?`Recipe ${s.recipe} (${s.recipe_hash}), seed ${s.seed}. `:""}${location.href}`;return n`<${x} title="This row in Python" text=${ht(s.layer_pictures,a)} />
    <${x} title="Cite this neuron" text=${u} wrapped />
    <${x} title="Cite the method" text=${$t} />
    <${oe} address=${r} label=${s.label} model=${i.model} row=${s} embed=${v.embed(e,t,a)} />`}function mt({row:e,model:t,site:a}){const s=t.model;return n`<dl class="figures facts">
      <${o} name="Recipe" column="recipe" value=${e.recipe} compare=${n`settings <code>${e.recipe_hash}</code>`} />
      <${o} name="Seed" column="seed" value=${ge(e.seed)} compare="with recipe and address it gives all random numbers" />
      <${o} name="Precision" column="precision" value=${e.precision} />
      <${o} name="Start" column="start" value=${e.start} />
      <${o} name="Module" table="sites" column="path" value=${n`<code>${a.path}</code>`} compare=${`${a.activation_function}, depth ${a.depth?.toFixed(2)}`} />
      <${o} name="Weights" table="models" column="fingerprint" value=${n`<code class="hash">${s.fingerprint}</code>`} compare=${s.model_id} />
      <${o} name="Licence of the weights" table="models" column="licence" value=${s.licence} />
      <${o} name="Versions" table="models" column="stages" value=${_e(ye(s).find(({stage:i})=>i==="visualize")?.software)||null} compare="that drew the picture" />
    </dl>
    <div class="curves">
      <${Q} title="Activation, step by step" points=${e.loss_curve.map(([i,,r])=>[i,r])} />
      <${Q} title="Objective, step by step" points=${e.loss_curve.map(([i,r])=>[i,r])} />
    </div>
    ${s.recipe_json&&n`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${ke(s.recipe_json)}</code></pre></details>`}
    <details><summary>Runs that worked on this model</summary><${be} runs=${t.runs} /></details>`}function pt({slug:e,layer:t,unit:a,row:s,model:i,trusted:r}){const u={slug:e,layer:t,unit:a},c=i.layers[t],p=_(e).stages.includes("examples");return n`${!r&&n`<${ce} row=${s} summary=${c} layer=${t} wide />`}
    <${vt} ...${u} row=${s} />
    ${!p&&n`<${Y} slug=${e} />`}
    <${qe} slug=${e} row=${s} />
    <${Ve} ...${u} />
    <${ot} ...${u} />
    ${p&&n`<${Y} slug=${e} />`}
    <${Je} row=${s} />
    <${L} id="numbers" name="Numbers" hint="every figure of this neuron, with what it means"><${nt} row=${s} summary=${c} /><//>
    <${L} id="made" name="How it was made" hint="recipe, seed, weights, versions, runs"><${mt} row=${s} model=${i} site=${i.sites[t]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${dt} ...${u} row=${s} model=${i} /></section>`}function ce({row:e,summary:t,layer:a,wide:s=!1}){const i=e.status==="failed",r=e.status!==null&&!i,u=i?`No picture: ${e.status_reason}.`:"This neuron has no picture yet.";return n`<section class="trust" aria-labelledby=${r?"trust":null}>${r&&n`<h2 id="trust">How far to trust the picture</h2>`}
    <div class=${s?"columns-2":""}><div>${r?n`<${Ye} row=${e} summary=${t} layer=${a} />`:n`<p class="note">${u}</p>`}</div>
      <div><${at} row=${e} /><${We} row=${e} /></div></div></section>`}const ft=()=>Promise.resolve().then(function(){return xt});function vt({slug:e,layer:t,unit:a,row:s}){return _(e).layers[t]?.pictures!==void 0&&n`<${xe} load=${ft} name="PicturesSection" props=${{slug:e,layer:t,unit:a,row:s}} />`}var bt=Object.freeze({__proto__:null,NeuronBelow:pt,TrustSection:ce});const gt={display:"grid",gridTemplateColumns:"repeat(auto-fill, minmax(104px, 1fr))",gap:"12px 8px",margin:"12px 0"},le={display:"block",width:"100%",aspectRatio:"1",overflow:"hidden",background:"var(--sunk)"},_t={marginTop:"4px",fontSize:"13px",lineHeight:"16px"};async function yt(e,t,a){const{pictures:s,further:i}=_(e).layers[t]??{};if(s===void 0)return null;const r=`${s}/${g(a/i)}.images`;return(await I(r,async()=>D(await(await G(r)).arrayBuffer(),r))).filter(c=>c.unit===a)}function kt({slug:e,layer:t,unit:a,row:s}){const{value:i,error:r,stale:u}=M(()=>yt(e,t,a),[e,t,a]),c=M(async()=>s.recipe&&s.status!=="failed"?Se(e,t,a).catch(()=>null):null,[e,t,a]);if(r)return n`<section><h2>In other ways</h2><${E} error=${r} /></section>`;const p=l=>i.filter(({recipe:d})=>d===l.recipe).length>1;return n`<section aria-labelledby="pictures" class="pictures" aria-busy=${u}><h2 id="pictures">In other ways</h2>
    <div style=${gt}>
      ${s.recipe&&n`<${ue} one=${{...s,url:c.stale?null:c.value}} name=${`${s.recipe}, above`} />`}
      ${(u?[]:i??[]).map(l=>n`<${ue} key=${`${l.recipe} ${l.variant}`} one=${l}
        name=${p(l)?`${l.recipe} ${l.variant+1}`:l.recipe} />`)}</div>
    <p class="note">The same neuron by other recipes. The figure is what is left of the activation when the picture is changed a little,
      mean over patches and strongest patch. Recipes aim at different things: compare what they show, not their figures alone.</p></section>`}function ue({one:e,name:t}){const a=[X(e),e.verdict_reason,e.start_image&&`Begun with ${e.start_image}.`,e.likeness!==void 0&&`Likeness to the nearest variant ${$(e.likeness)}.`];return n`<figure class="other" style=${{margin:0}}><div style=${le} title=${a.filter(Boolean).join(" ")}>
      ${e.url?n`<img style=${le} src=${e.url} alt=${`Picture by the recipe ${t}`} />`:n`<span class="note">${e.status_reason??""}</span>`}</div>
    <figcaption style=${_t}><b>${t}</b><br />${e.verdict??e.status}<br />${$(e.natural_mean)} / ${$(e.natural_peak)}</figcaption></figure>`}var xt=Object.freeze({__proto__:null,PicturesSection:kt});export{L as F,oe as T,z as a,Be as b,ne as c,Ie as d,je as e,w as f,Ae as g,O as h,ze as i,ee as j,Ee as k,Re as l,bt as n,se as p,He as s,Fe as t};
