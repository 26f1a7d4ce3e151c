import{w as W,s as p,f as x,j as me,a as q,l as v,p as j,n as pe,t as U,b as g,r as C,c as _,T,d as L,e as D,g as n,o as B,h as G,i as K,E as f,F as o,k as R,m as J,B as A,q as h,u as M,v as X,x as fe,y as E,N as ve,z as be,A as y,H as ge,D as _e,C as V,G as Q,I as k,S,J as Y,R as ye,K as ke,L as xe,M as Se,O as Te,P as Z,Q as Me,U as Oe}from"./main.js";const Ne=8;async function w(e){const t=W(e);return t.length===0||!p.search?.near?[]:je(await x(p.search.near),t)}function je({labels:e,near:t},a){const s=r=>{const l=W(r);return a.every($=>l.some(c=>c.startsWith($)))},i=new Map;for(const[r,l]of Object.entries(t))if(s(r))for(const[$,c]of l)s(e[$])||i.set(e[$],Math.max(c,i.get(e[$])??0));return[...i].sort((r,l)=>l[1]-r[1]||(r[0]<l[0]?-1:1)).slice(0,Ne)}const[Ce,ee,Le]=[3,5,3],te={columns:8};async function Re(e,t){const a=me(e,t).filter(({problem:c})=>c==="").slice(0,Ce),[s,i]=await Promise.all([q(e),q(e,p.head_search)]),r=[...a.map(({title:c,note:u,href:m})=>({title:c,note:u,href:m})),...s.slice(0,ee).map(c=>({title:c.text,note:j(c.neurons,"neuron"),href:v.search({q:c.text}),face:Ae(c.number)})),...i.slice(0,Le).map(c=>({title:c.text,note:j(c.neurons,"head"),href:v.search({q:c.text})}))];if(r.length>0)return r;const l=await w(e).catch(()=>[]);if(l.length>0)return l.slice(0,ee).map(([c])=>({title:c,note:"near in meaning",href:v.search({q:c})}));const $=await pe(e);return $===""?[]:[{title:$,note:"did you mean this?",href:v.search({q:$})}]}function Ae(e){const{faces:t,pack:a,texts:s}=p.search,i=Math.floor(e/a),r=Math.min(a,s-i*a);return U(`${t}/${g(i)}.webp`,e%a,te.columns,Math.ceil(r/te.columns))}var Ie=Object.freeze({__proto__:null,suggest:Re});const Pe=e=>[O(e.variance_share)?`${L(e.variance_share)} of the feature's variance`:"",O(e.selectivity)?`selectivity ${L(e.selectivity)}`:"",...Fe(e)].filter(t=>t!==""),O=e=>e!=null;function I(e){const{heads:t,model_id:a}=_(e);if(t!==null)return t;throw new T(`This atlas has not decomposed the heads of ${e} (${a}).`)}async function ae(e){const t=await x(`${I(e).folder}/heads.json.gz`);return{rows:C(t),scores:t.scores}}async function ze(e,t,a){const{folder:s,layers:i}=I(e);if(!i[t])throw new T(`${e} has ${i.length} attention layers, 0 to ${i.length-1}; there is no layer ${t}.`);if(a>=i[t])throw new T(`Attention layer ${t} of ${e} has ${i[t]} heads, 0 to ${i[t]-1}; there is no head ${a}.`);const[r,l]=await Promise.all([ae(e),x(`${s}/${g(t)}.json.gz`)]),$=c=>C(l[c],a);return{row:r.rows.find(c=>c.layer===t&&c.unit===a),all:r.rows,texts:$("texts"),features:$("features"),examples:$("examples"),neurons:$("neurons")}}async function Be(e,t,a){const{folder:s,reads:i}=I(e);if(Math.floor(a/p.read_pack)>=(i[t]??0))return[];const r=await x(`${s}/reads/${g(t)}-${g(a/p.read_pack)}.json.gz`);return C(r,a)}function se(e){const t=(p.features?.list??[]).findIndex(a=>a.name===e);if(p.features&&t>=0)return{number:t,entry:p.features.list[t]};throw new T(p.features?`This atlas has no feature \u201C${e}\u201D.`:"This atlas has scored no features.")}async function Ee(e){const{number:t}=se(e),{sets:a}=await x(`${p.features?.folder}/${g(t)}.json.gz`);return a.map(s=>({...s,rows:C(s)}))}const Fe=({ablation_effect:e,ablation_margin:t,ablation_flips:a})=>[[O(t)&&`margin ${D(t)} \u03C3`,O(e)&&`accuracy ${D(100*e)} points`].filter(Boolean).join(", ").replace(/^(?=.)/,"ablation: "),`flips ${L(a)} of images`],P=({id:e,name:t,hint:a,children:s})=>n`<section aria-labelledby=${e}><details class="fold">
  <summary><h2 id=${e}>${t}</h2> <span class="note">${a}</span></summary>${s}</details></section>`,[z,ne,ie]=[64,8,8];function F(e){const t=_(e).inversions;if(!t)throw new T(`This atlas has no inversions of ${e}.`);return t}const He=({recipe:e,variant:t})=>({by:e,...t?{v:String(t)}:{}});function re(e,t,a={}){const[s,...i]=t.split("/");return s==="head"?v.headpicture(e,...i,a):v.inversion(e,s,...i,a)}function oe(e){const{folder:t}=F(e);return B(`inversions ${t}`,async()=>{const a=Object.entries(await x(`${t}/index.json.gz`));return a[0][1].map((s,i)=>({at:i,...Object.fromEntries(a.map(([r,l])=>[r,l[i]]))}))})}const We=e=>{const t=new Set;return e.filter(({id:a,recipe:s})=>!t.has(`${a} ${s}`)&&t.add(`${a} ${s}`))};async function qe(e,t){const a=`${F(e).folder}/${g(t/ie)}.images`;return(await B(a,async()=>G(await(await K(a)).arrayBuffer(),a)))[t%ie]}function Ue(e,t,a){const s=Math.floor(t/z),i=Math.ceil(Math.min(z,a-s*z)/ne);return U(`${F(e).folder}/${g(s)}.webp`,t%z,ne,i)}function De(e,t){const a=s=>s.toLowerCase().normalize("NFKD").replace(/\p{M}/gu,"");return a(t).split(/\s+/).filter(Boolean).every(s=>a(e).includes(s))}const b=e=>e!=null;function Ge({row:e}){const t=(e.writes_to??[]).filter(a=>a.logit>0).slice(0,3);return t.length===0?null:n`<p class="writes"><${f} name="Writes to" column="writes_to" />: ${t.map((a,s)=>n`${s>0&&", "}${a.name} <b>${J(a.logit)}</b>`)}
    <span class="unit"> logit a unit of activation</span></p>`}function Ke({slug:e,row:t}){const a=b(t.writes_to)||b(t.effect_note)||b(t.ablation_effect);return!a&&!b(t.exciting_classes)?null:n`<section aria-labelledby="classes"><h2 id="classes">Classes and effect</h2>
    <div class="columns-2">
      ${b(t.exciting_classes)&&n`<div><h3><${f} name="Images that excite it" column="exciting_classes" /></h3><${Xe} classes=${t.exciting_classes} /></div>`}
      ${b(t.writes_to)&&n`<div><h3><${f} name="Classes it writes to" column="writes_to" /></h3><${Ve} slug=${e} classes=${t.writes_to} /></div>`}
      ${b(t.effect_note)&&n`<div><h3>Classes it writes to</h3><p class="note">Not shown: ${t.effect_note}.</p></div>`}
    </div>
    ${a&&n`<dl class="figures"><${o} name="Effect of ablation" column="ablation_effect" value=${t.ablation_effect}
      unit=${`\xB1 ${R(t.ablation_se)} logit`} compare=${`${t.ablation_kind}, ${j(t.ablation_images??0,"image")}; ${Je(t)}`} /></dl>`}
  </section>`}const Je=({ablation_effect:e,ablation_se:t})=>!b(e)||!b(t)?"":Math.abs(e)<2*t?"not told from 0":e>0?"the correct class loses without this neuron":"the correct class gains without this neuron";function Xe({classes:e}){const t=Math.max(...e.map(a=>a.mean),1e-9);return n`<table class="bars"><caption>Mean over the images of each class; bars are drawn against the largest.</caption><tbody>${e.map(a=>n`<tr key=${a.name}><th scope="row">${a.name}</th>
    <td class="line"><${A} value=${a.mean/t} /></td><td>${h(a.mean)}</td><td class="note">${j(a.images,"image")}</td></tr>`)}</tbody></table>`}function Ve({slug:e,classes:t}){const a=Qe(e),s=Math.max(...t.map(i=>Math.abs(i.logit)),1e-9);return n`<table class="bars"><caption>Change of the class's logit by a unit of activation; what it lowers is grey, bars are drawn against the largest.</caption><tbody>${t.map(i=>n`<tr key=${i.name} class=${i.logit<0?"lowered":""}><th scope="row">${a[i.name]?n`<a href=${a[i.name]}>${i.name}</a>`:i.name}</th>
    <td class="line"><${A} value=${Math.abs(i.logit)/s} /></td><td>${J(i.logit)}</td></tr>`)}</tbody></table>`}function Qe(e){const{value:t}=M(async()=>_(e).inversions?oe(e).catch(()=>[]):[],[e]);return Object.fromEntries((t??[]).filter(({kind:a})=>a==="class").map(({id:a,target:s})=>[s,re(e,a)]))}const ce=e=>e!=null;function Ye({row:e}){if(!ce(e.label_status))return null;const t=e.label_candidates??[];return n`<${P} id="label" name="Label" hint="the texts that were tried, and how readable the neuron is">
    ${t.length>0&&n`<div class="scroll" tabindex="0" role="group" aria-label="Texts that were tried"><table class="candidates"><thead><tr><th scope="col">text</th>
      <th scope="col"><${f} name="score" column="label_score" /></th><th scope="col"><${f} name="z" column="label_z" /></th>
      <th scope="col"><${f} name="held-out AUROC" column="label_auroc" /></th></tr></thead>
      <tbody>${t.map(a=>n`<tr key=${a.text} class=${a.text===e.label?"chosen":""}><th scope="row">${a.text}</th>
        <td>${h(a.score)}</td><td>${h(a.z)}</td><td>${h(a.auroc)}</td></tr>`)}</tbody></table></div>`}
    <dl class="figures">
      <${o} name="Clarity" column="clarity" value=${e.clarity} compare="0 as random crops, 1 all alike" />
      <${o} name="Polysemanticity" column="polysemanticity" value=${e.polysemanticity} compare="0 one meaning" />
      <${o} name="Redundancy" column="redundancy" value=${e.redundancy} compare=${ce(e.twin)&&n`twin: <${Ze} address=${e.twin} />`} />
      <${o} name="Texts compared with" column="label_view" value=${e.label_view==="crop"?"crops":"whole images"} compare=${e.label_view==="crop"?"around the strongest patch":""} />
      <${o} name="List of texts" column="concept_set" value=${n`<code class="hash">${e.concept_set}</code>`} />
      <${o} name="Compared by" column="embedder" value=${n`<code class="hash">${e.embedder}</code>`} />
    </dl><//>`}function Ze({address:e}){const[t,,a,s]=e.split("/");return n`<a href=${v.neuron(t,Number(a),Number(s))}>${X(t,Number(a),Number(s))}</a>`}function we({slug:e,layer:t,unit:a}){const{value:s,error:i,stale:r}=M(()=>fe(e,t,a),[e,t,a]);if(_(e).layers[t].matches===void 0)return null;if(i)return n`<section><h2>Same in other models</h2><${E} error=${i} /></section>`;const l=r?[]:s??[],$=[...new Set(l.map(m=>m.slug))],c=l.find(m=>m.cluster!==null)?.cluster??null,u=$.map(m=>l.filter(N=>N.slug===m));return n`<section aria-labelledby="matches"><h2 id="matches">Same in other models</h2>
    ${c!==null&&n`<p class="cluster-line">Part of <a href=${v.cluster(c)}>Rosetta cluster ${c}</a>: neurons of
      three or more models, every two of them each other's best counterpart.</p>`}
    <div class="counterparts">${u.filter(([m])=>m.slug!==e).map(m=>n`<${le} key=${m[0].slug} rows=${m} />`)}</div>
    ${u.every(([m])=>m.slug===e)&&!r&&n`<p class="note">${p.models.length===1?"This atlas holds no other model.":"No other model of this atlas was measured on the same images."}</p>`}
    ${u.filter(([m])=>m.slug===e).map(m=>n`<h3 key="own">Near-duplicates in this model</h3>
      <div class="counterparts" key="own tiles">${m.map(N=>n`<${le} key=${N.partner} rows=${[N]} />`)}</div>`)}
    ${l.length>0&&n`<p class="note"><${f} name="Correlation" column="correlation" table="neuron_matches" /> of both activation maps over all places of all probe images;
      the tick is <${f} name="chance" column="threshold" table="neuron_matches" />: what 99 % of the model's neurons stay below when
      images are shuffled. What is not above it may be chance.</p>`}</section>`}function le({rows:[e,...t]}){return n`<${ve} slug=${e.slug} layer=${e.layer} unit=${e.partner}>
    ${e.label!==null&&n`<span class="label-small">${e.label}</span>`}
    <${et} row=${e} />
    ${t.length>0&&n`<span class="note next">next: ${t.map((a,s)=>n`${s>0&&", "}${be(a.slug,a.layer,a.partner)?n`<a href=${v.neuron(a.slug,a.layer,a.partner)}>${a.layer}/${a.partner}</a>`:`${a.layer}/${a.partner}`} ${h(a.correlation)}`)}</span>`}
  <//>`}function et({row:e}){const t=e.threshold??e.null;return n`<span class="correlation"><span><b>${h(e.correlation)}</b> <span class="unit">chance ${h(t)}</span></span>
    <${A} value=${e.correlation} chance=${t} />
    ${e.mutual===1&&n`<span class="flag">mutual best</span>`}${e.significant===0&&n`<span class="unit">not above chance</span>`}</span>`}const d=e=>e!=null;function tt({row:e,summary:t,layer:a}){const s=[{name:"start",value:e.activation_start,kind:"start"},{name:"this picture",value:e.activation,kind:"end"},d(e.natural_mean)?{name:"changed a little",value:e.natural_mean,kind:"fresh"}:{name:"recoloured, shifted",value:e.robust_mean,spread:e.robust_std,kind:"fresh",note:`${h(e.robust_mean)} \xB1 ${R(e.robust_std)}`},{name:"best real image",value:e.mean_max,kind:"real"},{name:`layer ${a}`,band:t.quantiles,kind:"layer",note:`median ${h(t.quantiles[2])}`}];return n`${d(e.verdict)&&n`<p class="verdict"><${f} name="verdict" column="verdict"><b>${V(e)}</b> ${it(e)}<//></p>`}
    <p class="verdict">${ot(e)}</p>
    ${Q(e)!==null&&n`<p class="verdict"><${f} name="percentile" column="percentile">${at(e)}<//></p>`}
    ${d(e.natural_kinds)&&e.natural_kinds.length>0&&n`<${nt} kinds=${e.natural_kinds} />`}
    <figure><${_e} label="Activation on one scale" rows=${s} />
    <figcaption>Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${a} holds half, its thin
      part nine tenths of the activations that the ${k(t.described)} pictures of this layer reach.</figcaption></figure>
    <p class="rank">Rank <b>${k(e.rank)}</b> of ${k(t.described)} in its layer by activation.</p>
    ${d(e.rescue)&&n`<p class="rank">Rescued: the first attempt gave no gradient, then <b>${e.rescue}</b> moved it.</p>`}`}function at(e){const t=k(e.probe_images),a=r=>d(r)?n`<b>${h(r)}</b> times the best`:"no image fires the neuron",s=n`mean over patches ${a(e.ratio_to_best)}, strongest patch ${a(e.peak_ratio)}`;return{both:n`More than every one of ${t} real images: ${s}.`,mean:n`More than every one of ${t} real images by the mean over patches, not at the strongest patch: ${s}.`,peak:n`More than every one of ${t} real images at the strongest patch, not by the mean over patches: ${s}.`,neither:n`Less than the best of ${t} real images: ${s}. By the mean, more than <b>${h(e.percentile)} %</b> of them.`}[Q(e)??"neither"]}const st={shift:"shifted",turn:"turned, zoomed",colour:"recoloured",blur:"blurred",noise:"noisy"};function nt({kinds:e}){return n`<p class="note">Kept when ${e.map(({kind:t,kept:a},s)=>n`${s>0&&" \xB7 "}${st[t]??t} <b>${d(a)?y(Math.max(0,a)):"\u2013"}</b>`)}</p>`}const it=e=>d(e.verdict_reason)?`${e.verdict_reason[0].toUpperCase()}${e.verdict_reason.slice(1)}.`:"";function rt({row:e}){if(!d(e.histogram))return null;const t=e.activation_peak??null,a=d(e.fires_on)?n`<${f} name="fires on" column="fires_on">Fires on <b>${y(e.fires_on)}</b> of images<//>`:"Fires on no image: no patch of any probe image is over 0.";return n`<div class="fires-on"><p class="verdict">${a}</p>
    <figure><${ge} histogram=${e.histogram} mark=${t} from=${d(e.fires_on)?e.peak_max/2:null} name="Images by their strongest patch" />
    <figcaption>Images by their strongest patch; heights are square roots of counts.${d(e.fires_on)&&" Blue: over half of the strongest."}
      ${t!==null&&n` The pin is the picture: <b>${h(t)}</b>${d(e.peak_ratio)&&n`, ${h(e.peak_ratio)} times the strongest image`}.`}</figcaption></figure></div>`}function ot(e){if(e.status==="inactive")return n`It reaches <b>${h(e.activation)}</b>, from ${h(e.activation_start)} at the start: this neuron did not fire.`;const t=!d(e.verdict)&&d(e.robust_mean)&&e.activation>0?e.robust_mean/e.activation:null;return n`It ${e.activation>e.activation_start?"drives":"brings"} the neuron to <b>${h(e.activation)}</b>, from ${h(e.activation_start)} at the start.${" "}
    ${t!==null&&n`Under ${e.robust_draws} fresh random shifts of place and colour ${t<=0?n`<b>nothing</b> of that remains.`:n`<b>${y(t)}</b> of that ${t<1?"remains":"is reached"}.`}`}`}function ct({row:e,summary:t}){return n`<dl class="figures">${e.status!==null&&n`<${lt} row=${e} summary=${t} />`}<${ut} row=${e} /></dl>`}function lt({row:e,summary:t}){const a=(s,i)=>d(s)&&i>0?`${y(s/i)} of the clean picture's`:"";return n`<${o} name="Activation" column="activation" value=${e.activation} unit="mean over patches"
        compare=${`median of the layer ${h(t.quantiles[2])}, start ${h(e.activation_start)}`} />
      <${o} name="Strongest patch" column="activation_peak" value=${e.activation_peak} unit="activation"
        compare=${`start ${h(e.activation_start_peak)}`} />
      ${d(e.verdict)&&n`<${o} name="Verdict" column="verdict" value=${e.verdict} compare=${e.verdict_reason} />
      <${o} name="Under natural changes" column="natural_mean" value=${e.natural_mean} unit="mean over patches" compare=${d(e.natural_kept)?`${y(e.natural_kept)} of the stored picture's`:""} />
      <${o} name="Strongest patch, changed" column="natural_peak" value=${e.natural_peak} unit="activation" compare=${d(e.natural_kept_peak)?`${y(e.natural_kept_peak)} of the stored picture's`:""} />`}
      <${o} name="Recoloured and shifted, as published" column="robust_mean" value=${e.robust_mean} unit=${`\xB1 ${R(e.robust_std)}, ${e.robust_draws} draws`}
        compare=${a(e.robust_mean,e.activation)} />
      <${o} name="Strongest patch, so" column="robust_peak" value=${e.robust_peak} unit="activation" compare=${a(e.robust_peak,e.activation_peak)} />
      <${o} name="Picture as stored" column="activation_stored" value=${e.activation_stored} unit="mean over patches" compare=${a(e.activation_stored,e.activation)} />
      <${o} name="Status" column="status" value=${e.status} compare=${`${k(t.active)} active, ${k(t.inactive)} inactive in this layer`} />
      <${o} name="Rescue" column="rescue" value=${e.rescue??"none"} compare=${d(e.rescue)?"":"a neuron with a flat gradient gets another start"} />
      <${o} name="Steps" column="steps" value=${e.steps} unit="steps" compare=${`${k(e.image_steps??0)} forward-backward passes of one image`} />
      <${o} name="Time" column="seconds" value=${e.seconds} unit="s" compare="share of its batch, on the machine of the run" />`}function ut({row:e}){if(!d(e.probe_images))return null;const t=`${k(e.probe_images)} images`;return n`<${o} name="Fires on" column="fires_on" value=${d(e.fires_on)?y(e.fires_on):null} unit="of images" compare=${`of ${t}`} />
    <${o} name="Active patches" column="fraction_active" value=${y(e.fraction_active)} unit="of patch tokens" compare=${`of ${t}`} />
    <${o} name="Best real image" column="mean_max" value=${e.mean_max} unit="mean over patches" compare=${d(e.activation)?`the picture ${h(e.activation)}`:""} />
    <${o} name="Strongest real patch" column="peak_max" value=${e.peak_max} unit="activation" compare=${d(e.activation_peak)?`the picture ${h(e.activation_peak)}`:""} />
    ${d(e.percentile)&&n`<${o} name="Percentile" column="percentile" value=${e.percentile} unit="% of images below the picture" compare=${d(e.ratio_to_best)?`${h(e.ratio_to_best)} times the best image`:""} />
    <${o} name="Ratio at the strongest patch" column="peak_ratio" value=${e.peak_ratio} unit="times the best image" />`}
    <${o} name="Over all patches" column="token_mean" value=${e.token_mean} unit=${`\xB1 ${R(e.token_std)}`} compare="mean and standard deviation" />
    <${o} name="Kurtosis" column="token_kurtosis" value=${e.token_kurtosis} compare="3 for a normal distribution" />
    <${o} name="Quantiles of the strongest patch" column="peak_quantiles" compare="at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 % of images"
      value=${e.peak_quantiles}>${(e.peak_quantiles??[]).map(h).join(", ")}<//>`}function $t({slug:e,layer:t,unit:a}){const s=(_(e).heads?.reads.length??0)>0,{value:i,error:r,stale:l}=M(async()=>s?Be(e,t,a):[],[e,t,a]);if(!s)return null;const $=l?[]:i??[],c=Math.max(...$.map(u=>u.share),1e-9);return n`<section aria-labelledby="readers"><h2 id="readers">Heads that read it</h2>
    ${r&&n`<${E} error=${r} />`}
    ${!l&&!r&&$.length===0&&n`<p class="note">No later attention head reads this neuron: what it adds goes on along the residual path alone.</p>`}
    ${$.length>0&&n`<ol class="ranked">${$.map(u=>n`<li key=${`${u.layer}/${u.head}`}>
        <a class="where" href=${v.head(e,u.layer,u.head)}>layer ${u.layer}, head ${u.head}</a>
        <span class="line"><${A} value=${u.share/c} /></span><b class="value">${L(u.share)}</b>
        <span class=${u.label===null?"said note":"said"}>${u.label===null?"unlabelled":`\u201C${u.label}\u201D`}${u.level!=="direct"&&n` <span class="note">· ${u.level}</span>`}</span></li>`)}</ol>
      <p class="note"><${f} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; bars are drawn against the first.</p>`}</section>`}const ht=(e,t)=>`<iframe src="${new URL(e,document.baseURI.split("#")[0]).href}" title="${t}" width="640" height="300" loading="lazy" style="border: 0"></iframe>`,dt={"{":"\\{","}":"\\}","%":"\\%","&":"\\&",_:"\\_","#":"\\#",$:"\\$"},H=e=>e.replace(/[{}%&_#$]/g,t=>dt[t]);function mt(e,t,a,s=new Date().getFullYear()){const i=t?`${e} (\`\`${t}'')`:e;return`@misc{${e.replace(/[^a-z0-9]+/g,"-")},
  title        = {${H(i)}},
  howpublished = {\\url{${location.href}}},
  year         = {${s}},
  note         = {${H(p.title)}, revision ${p.revision}, schema ${p.schema}; model ${H(a.model_id)}, weights SHA-256 ${a.fingerprint}}
}`}function ue({address:e,label:t,model:a,row:s,embed:i}){return n`<${S} title="BibTeX" text=${mt(e,t,a)} />
    <${S} title="In a page of your own" text=${ht(i,e)} wrapped />
    <details><summary>This row as JSON</summary><${S} title=${e} text=${JSON.stringify({address:e,...s},null,1)} /></details>`}const pt=`@article{ghiasi2022vision,
  title   = {What do Vision Transformers Learn? A Visual Exploration},
  author  = {Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and Reich, Steven and Shu, Manli and
             Goldblum, Micah and Wilson, Andrew Gordon and Goldstein, Tom},
  journal = {arXiv preprint arXiv:2212.06727},
  year    = {2022}
}`;function ft(e,t){const a=p.dataset===""?"path/to/atlas":p.dataset;return`from datasets import load_dataset

atlas = ${JSON.stringify(a)}${p.dataset===""?"  # the folder of this atlas, or its hf:// address":""}
shard = f"{atlas}/${e}"
row = load_dataset("parquet", data_files=shard, split="train", filters=[("unit", "==", ${t})])[0]
row["image"], row["activation"], row["robust_mean"]`}function vt({slug:e,layer:t,unit:a,row:s,model:i}){const r=X(e,t,a),l=`${r}, ${p.title}, schema ${p.schema}. Model ${i.model.model_id}, weights SHA-256 ${i.model.fingerprint}. ${s.recipe?`Recipe ${s.recipe} (${s.recipe_hash}), seed ${s.seed}. `:""}${location.href}`;return n`<${S} title="This row in Python" text=${ft(s.layer_pictures,a)} />
    <${S} title="Cite this neuron" text=${l} wrapped />
    <${S} title="Cite the method" text=${pt} />
    <${ue} address=${r} label=${s.label} model=${i.model} row=${s} embed=${v.embed(e,t,a)} />`}function bt({row:e,model:t,site:a}){const s=t.model;return n`<dl class="figures facts">
      <${o} name="Recipe" column="recipe" value=${e.recipe} compare=${n`settings <code>${e.recipe_hash}</code>`} />
      <${o} name="Seed" column="seed" value=${ke(e.seed)} compare="with recipe and address it gives all random numbers" />
      <${o} name="Precision" column="precision" value=${e.precision} />
      <${o} name="Start" column="start" value=${e.start} />
      <${o} name="Module" table="sites" column="path" value=${n`<code>${a.path}</code>`} compare=${`${a.activation_function}, depth ${a.depth?.toFixed(2)}`} />
      <${o} name="Weights" table="models" column="fingerprint" value=${n`<code class="hash">${s.fingerprint}</code>`} compare=${s.model_id} />
      <${o} name="Licence of the weights" table="models" column="licence" value=${s.licence} />
      <${o} name="Versions" table="models" column="stages" value=${xe(Se(s).find(({stage:i})=>i==="visualize")?.software)||null} compare="that drew the picture" />
    </dl>
    <div class="curves">
      <${Y} title="Activation, step by step" points=${e.loss_curve.map(([i,,r])=>[i,r])} />
      <${Y} title="Objective, step by step" points=${e.loss_curve.map(([i,r])=>[i,r])} />
    </div>
    ${s.recipe_json&&n`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${Te(s.recipe_json)}</code></pre></details>`}
    <details><summary>Runs that worked on this model</summary><${ye} runs=${t.runs} /></details>`}function gt({slug:e,layer:t,unit:a,row:s,model:i,trusted:r}){const l={slug:e,layer:t,unit:a},$=i.layers[t],c=_(e).stages.includes("examples");return n`${!r&&n`<${$e} row=${s} summary=${$} layer=${t} wide />`}
    <${yt} ...${l} row=${s} />
    ${!c&&n`<${Z} slug=${e} />`}
    <${Ke} slug=${e} row=${s} />
    <${we} ...${l} />
    <${$t} ...${l} />
    ${c&&n`<${Z} slug=${e} />`}
    <${Ye} row=${s} />
    <${P} id="numbers" name="Numbers" hint="every figure of this neuron, with what it means"><${ct} row=${s} summary=${$} /><//>
    <${P} id="made" name="How it was made" hint="recipe, seed, weights, versions, runs"><${bt} row=${s} model=${i} site=${i.sites[t]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${vt} ...${l} row=${s} model=${i} /></section>`}function $e({row:e,summary:t,layer:a,wide:s=!1}){const i=e.status==="failed",r=e.status!==null&&!i,l=i?`No picture: ${e.status_reason}.`:"This neuron has no picture yet.";return n`<section class="trust" aria-labelledby=${r?"trust":null}>${r&&n`<h2 id="trust">How far to trust the picture</h2>`}
    <div class=${s?"columns-2":""}><div>${r?n`<${tt} row=${e} summary=${t} layer=${a} />`:n`<p class="note">${l}</p>`}</div>
      <div><${rt} row=${e} /><${Ge} row=${e} /></div></div></section>`}const _t=()=>Promise.resolve().then(function(){return Ot});function yt({slug:e,layer:t,unit:a,row:s}){return _(e).layers[t]?.pictures!==void 0&&n`<${Me} load=${_t} name="PicturesSection" props=${{slug:e,layer:t,unit:a,row:s}} />`}var kt=Object.freeze({__proto__:null,NeuronBelow:gt,TrustSection:$e});const xt={display:"grid",gridTemplateColumns:"repeat(auto-fill, minmax(104px, 1fr))",gap:"12px 8px",margin:"12px 0"},he={display:"block",width:"100%",aspectRatio:"1",overflow:"hidden",background:"var(--sunk)"},St={marginTop:"4px",fontSize:"13px",lineHeight:"16px"};async function Tt(e,t,a){const{pictures:s,further:i}=_(e).layers[t]??{};if(s===void 0)return null;const r=`${s}/${g(a/i)}.images`;return(await B(r,async()=>G(await(await K(r)).arrayBuffer(),r))).filter($=>$.unit===a)}function Mt({slug:e,layer:t,unit:a,row:s}){const{value:i,error:r,stale:l}=M(()=>Tt(e,t,a),[e,t,a]),$=M(async()=>s.recipe&&s.status!=="failed"?Oe(e,t,a).catch(()=>null):null,[e,t,a]);if(r)return n`<section><h2>In other ways</h2><${E} error=${r} /></section>`;const c=u=>i.filter(({recipe:m})=>m===u.recipe).length>1;return n`<section aria-labelledby="pictures" class="pictures" aria-busy=${l}><h2 id="pictures">In other ways</h2>
    <div style=${xt}>
      ${s.recipe&&n`<${de} one=${{...s,url:$.stale?null:$.value}} name=${`${s.recipe}, above`} />`}
      ${(l?[]:i??[]).map(u=>n`<${de} key=${`${u.recipe} ${u.variant}`} one=${u}
        name=${c(u)?`${u.recipe} ${u.variant+1}`:u.recipe} />`)}</div>
    <p class="note">The same neuron by other recipes. The figure is what is left of the activation when the picture is changed a little,
      mean over patches and strongest patch. Recipes aim at different things: compare what they show, not their figures alone.</p></section>`}function de({one:e,name:t}){const a=[V(e),e.verdict_reason,e.start_image&&`Begun with ${e.start_image}.`,e.likeness!==void 0&&`Likeness to the nearest variant ${h(e.likeness)}.`];return n`<figure class="other" style=${{margin:0}}><div style=${he} title=${a.filter(Boolean).join(" ")}>
      ${e.url?n`<img style=${he} src=${e.url} alt=${`Picture by the recipe ${t}`} />`:n`<span class="note">${e.status_reason??""}</span>`}</div>
    <figcaption style=${St}><b>${t}</b><br />${e.verdict??e.status}<br />${h(e.natural_mean)} / ${h(e.natural_peak)}</figcaption></figure>`}var Ot=Object.freeze({__proto__:null,PicturesSection:Mt});export{P as F,ue as T,I as a,He as b,oe as c,We as d,Pe as e,ae as f,ze as g,O as h,Ee as i,se as j,qe as k,Ie as l,kt as m,w as n,re as p,De as s,Ue as t};
