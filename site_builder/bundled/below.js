import{w as q,s as d,f as S,j as me,a as de,l as f,p as M,n as pe,t as W,b,r as C,c as _,T as O,d as L,e as U,g as n,o as B,h as D,i as G,E as v,F as c,k as j,m as K,B as A,q as $,u as N,v as J,x as fe,y as E,N as ve,z as be,A as y,H as ge,D as _e,C as X,G as V,I as k,S as T,J as Q,R as ye,K as ke,L as xe,M as Se,O as Te,P as Y,Q as Me,U as Oe}from"./main.js";const Ne=8;async function Z(e){const t=q(e);return t.length===0||!d.search?.near?[]:Re(await S(d.search.near),t)}function Re({labels:e,near:t},a){const s=o=>{const l=q(o);return a.every(h=>l.some(p=>p.startsWith(h)))},i=new Map;for(const[o,l]of Object.entries(t))if(s(o))for(const[h,p]of l)s(e[h])||i.set(e[h],Math.max(p,i.get(e[h])??0));return[...i].sort((o,l)=>l[1]-o[1]||(o[0]<l[0]?-1:1)).slice(0,Ne)}const[Ce,w,Le,je]=[3,5,3,2],ee={columns:8};async function Ae(e,t){const a=me(e,t).filter(({problem:r})=>r==="").slice(0,Ce),[s,i,o]=await Promise.all([d.search,d.head_search,d.cluster_search].map(r=>de(e,r))),l=[...a.map(({title:r,note:u,href:x})=>({title:r,note:u,href:x})),...s.slice(0,w).map(r=>({title:r.text,note:M(r.neurons,"neuron"),href:f.search({q:r.text}),face:Ie(r.number)})),...i.slice(0,Le).map(r=>({title:r.text,note:M(r.neurons,"head"),href:f.search({q:r.text})})),...o.slice(0,je).map(r=>({title:r.text,note:M(r.neurons,"Rosetta cluster"),href:f.search({q:r.text})}))];if(l.length>0)return l;const h=await Z(e).catch(()=>[]);if(h.length>0)return h.slice(0,w).map(([r])=>({title:r,note:"near in meaning",href:f.search({q:r})}));const p=await pe(e);return p===""?[]:[{title:p,note:"did you mean this?",href:f.search({q:p})}]}function Ie(e){const{faces:t,pack:a,texts:s}=d.search,i=Math.floor(e/a),o=Math.min(a,s-i*a);return W(`${t}/${b(i)}.webp`,e%a,ee.columns,Math.ceil(o/ee.columns))}var Pe=Object.freeze({__proto__:null,suggest:Ae});const ze=e=>[R(e.variance_share)?`${L(e.variance_share)} of the feature's variance`:"",R(e.selectivity)?`selectivity ${L(e.selectivity)}`:"",...He(e)].filter(t=>t!==""),R=e=>e!=null;function I(e){const{heads:t,model_id:a}=_(e);if(t!==null)return t;throw new O(`This atlas has not decomposed the heads of ${e} (${a}).`)}async function te(e){const t=await S(`${I(e).folder}/heads.json.gz`);return{rows:C(t),scores:t.scores}}async function Be(e,t,a){const{folder:s,layers:i,images:o}=I(e);if(!i[t])throw new O(`${e} has ${i.length} attention layers, 0 to ${i.length-1}; there is no layer ${t}.`);if(a>=i[t])throw new O(`Attention layer ${t} of ${e} has ${i[t]} heads, 0 to ${i[t]-1}; there is no head ${a}.`);const[l,h]=await Promise.all([te(e),S(`${s}/${b(t)}.json.gz`)]),p=o?`${s}/images/${b(t)}-${b(a)}.images`:void 0,r=u=>C(h[u],a);return{row:l.rows.find(u=>u.layer===t&&u.unit===a),all:l.rows,texts:r("texts"),features:r("features"),examples:r("examples").map(u=>({...u,bundle:p})),neurons:r("neurons")}}async function Ee(e,t,a){const{folder:s,reads:i}=I(e);if(Math.floor(a/d.read_pack)>=(i[t]??0))return[];const o=await S(`${s}/reads/${b(t)}-${b(a/d.read_pack)}.json.gz`);return C(o,a)}function ae(e){const t=(d.features?.list??[]).findIndex(a=>a.name===e);if(d.features&&t>=0)return{number:t,entry:d.features.list[t]};throw new O(d.features?`This atlas has no feature \u201C${e}\u201D.`:"This atlas has scored no features.")}async function Fe(e){const{number:t}=ae(e),{sets:a}=await S(`${d.features?.folder}/${b(t)}.json.gz`);return a.map(s=>({...s,rows:C(s)}))}const He=({ablation_effect:e,ablation_margin:t,ablation_flips:a})=>[[R(t)&&`margin ${U(t)} \u03C3`,R(e)&&`accuracy ${U(100*e)} points`].filter(Boolean).join(", ").replace(/^(?=.)/,"ablation: "),`flips ${L(a)} of images`],P=({id:e,name:t,hint:a,children:s})=>n`<section aria-labelledby=${e}><details class="fold">
  <summary><h2 id=${e}>${t}</h2> <span class="note">${a}</span></summary>${s}</details></section>`,[z,se,ne]=[64,8,8];function F(e){const t=_(e).inversions;if(!t)throw new O(`This atlas has no inversions of ${e}.`);return t}const qe=({recipe:e,variant:t})=>({by:e,...t?{v:String(t)}:{}});function ie(e,t,a={}){const[s,...i]=t.split("/");return s==="head"?f.headpicture(e,...i,a):f.inversion(e,s,...i,a)}function re(e){const{folder:t}=F(e);return B(`inversions ${t}`,async()=>{const a=Object.entries(await S(`${t}/index.json.gz`));return a[0][1].map((s,i)=>({at:i,...Object.fromEntries(a.map(([o,l])=>[o,l[i]]))}))})}const We=e=>{const t=new Set;return e.filter(({id:a,recipe:s})=>!t.has(`${a} ${s}`)&&t.add(`${a} ${s}`))};async function Ue(e,t){const a=`${F(e).folder}/${b(t/ne)}.images`;return(await B(a,async()=>D(await(await G(a)).arrayBuffer(),a)))[t%ne]}function De(e,t,a){const s=Math.floor(t/z),i=Math.ceil(Math.min(z,a-s*z)/se);return W(`${F(e).folder}/${b(s)}.webp`,t%z,se,i)}function Ge(e,t){const a=s=>s.toLowerCase().normalize("NFKD").replace(/\p{M}/gu,"");return a(t).split(/\s+/).filter(Boolean).every(s=>a(e).includes(s))}const g=e=>e!=null;function Ke({row:e}){const t=(e.writes_to??[]).filter(a=>a.logit>0).slice(0,3);return t.length===0?null:n`<p class="writes"><${v} name="Writes to" column="writes_to" />: ${t.map((a,s)=>n`${s>0&&", "}${a.name} <b>${K(a.logit)}</b>`)}
    <span class="unit"> logit a unit of activation</span></p>`}function Je({slug:e,row:t}){const a=g(t.writes_to)||g(t.effect_note)||g(t.ablation_effect);return!a&&!g(t.exciting_classes)?null:n`<section aria-labelledby="classes"><h2 id="classes">Classes and effect</h2>
    <div class="columns-2">
      ${g(t.exciting_classes)&&n`<div><h3><${v} name="Images that excite it" column="exciting_classes" /></h3><${Ve} classes=${t.exciting_classes} /></div>`}
      ${g(t.writes_to)&&n`<div><h3><${v} name="Classes it writes to" column="writes_to" /></h3><${Qe} slug=${e} classes=${t.writes_to} /></div>`}
      ${g(t.effect_note)&&n`<div><h3>Classes it writes to</h3><p class="note">Not shown: ${t.effect_note}.</p></div>`}
    </div>
    ${a&&n`<dl class="figures"><${c} name="Effect of ablation" column="ablation_effect" value=${t.ablation_effect}
      unit=${`\xB1 ${j(t.ablation_se)} logit`} compare=${`${t.ablation_kind}, ${M(t.ablation_images??0,"image")}; ${Xe(t)}`} /></dl>`}
  </section>`}const Xe=({ablation_effect:e,ablation_se:t})=>!g(e)||!g(t)?"":Math.abs(e)<2*t?"not told from 0":e>0?"the correct class loses without this neuron":"the correct class gains without this neuron";function Ve({classes:e}){const t=Math.max(...e.map(a=>a.mean),1e-9);return n`<table class="bars"><caption>Mean over the images of each class; bars are drawn against the largest.</caption><tbody>${e.map(a=>n`<tr key=${a.name}><th scope="row">${a.name}</th>
    <td class="line"><${A} value=${a.mean/t} /></td><td>${$(a.mean)}</td><td class="note">${M(a.images,"image")}</td></tr>`)}</tbody></table>`}function Qe({slug:e,classes:t}){const a=Ye(e),s=Math.max(...t.map(i=>Math.abs(i.logit)),1e-9);return n`<table class="bars"><caption>Change of the class's logit by a unit of activation; what it lowers is grey, bars are drawn against the largest.</caption><tbody>${t.map(i=>n`<tr key=${i.name} class=${i.logit<0?"lowered":""}><th scope="row">${a[i.name]?n`<a href=${a[i.name]}>${i.name}</a>`:i.name}</th>
    <td class="line"><${A} value=${Math.abs(i.logit)/s} /></td><td>${K(i.logit)}</td></tr>`)}</tbody></table>`}function Ye(e){const{value:t}=N(async()=>_(e).inversions?re(e).catch(()=>[]):[],[e]);return Object.fromEntries((t??[]).filter(({kind:a})=>a==="class").map(({id:a,target:s})=>[s,ie(e,a)]))}const oe=e=>e!=null;function Ze({row:e}){if(!oe(e.label_status))return null;const t=e.label_candidates??[];return n`<${P} id="label" name="Label" hint="the texts that were tried, and how readable the neuron is">
    ${t.length>0&&n`<div class="scroll" tabindex="0" role="group" aria-label="Texts that were tried"><table class="candidates"><thead><tr><th scope="col">text</th>
      <th scope="col"><${v} name="score" column="label_score" /></th><th scope="col"><${v} name="z" column="label_z" /></th>
      <th scope="col"><${v} name="held-out AUROC" column="label_auroc" /></th></tr></thead>
      <tbody>${t.map(a=>n`<tr key=${a.text} class=${a.text===e.label?"chosen":""}><th scope="row">${a.text}</th>
        <td>${$(a.score)}</td><td>${$(a.z)}</td><td>${$(a.auroc)}</td></tr>`)}</tbody></table></div>`}
    <dl class="figures">
      <${c} name="Clarity" column="clarity" value=${e.clarity} compare="0 as random crops, 1 all alike" />
      <${c} name="Polysemanticity" column="polysemanticity" value=${e.polysemanticity} compare="0 one meaning" />
      <${c} name="Redundancy" column="redundancy" value=${e.redundancy} compare=${oe(e.twin)&&n`twin: <${we} address=${e.twin} />`} />
      <${c} name="Texts compared with" column="label_view" value=${e.label_view==="crop"?"crops":"whole images"} compare=${e.label_view==="crop"?"around the strongest patch":""} />
      <${c} name="List of texts" column="concept_set" value=${n`<code class="hash">${e.concept_set}</code>`} />
      <${c} name="Compared by" column="embedder" value=${n`<code class="hash">${e.embedder}</code>`} />
    </dl><//>`}function we({address:e}){const[t,,a,s]=e.split("/");return n`<a href=${f.neuron(t,Number(a),Number(s))}>${J(t,Number(a),Number(s))}</a>`}function et({slug:e,layer:t,unit:a}){const{value:s,error:i,stale:o}=N(()=>fe(e,t,a),[e,t,a]);if(_(e).layers[t].matches===void 0)return null;if(i)return n`<section><h2>Same in other models</h2><${E} error=${i} /></section>`;const l=o?[]:s??[],h=[...new Set(l.map(u=>u.slug))],p=l.find(u=>u.cluster!==null)?.cluster??null,r=h.map(u=>l.filter(x=>x.slug===u));return n`<section aria-labelledby="matches"><h2 id="matches">Same in other models</h2>
    ${p!==null&&n`<p class="cluster-line">Part of <a href=${f.cluster(p)}>Rosetta cluster ${p}</a>: neurons of
      three or more models, every two of them each other's best counterpart.</p>`}
    <div class="counterparts">${r.filter(([u])=>u.slug!==e).map(u=>n`<${ce} key=${u[0].slug} rows=${u} />`)}</div>
    ${r.every(([u])=>u.slug===e)&&!o&&n`<p class="note">${d.models.length===1?"This atlas holds no other model.":"No other model of this atlas was measured on the same images."}</p>`}
    ${r.filter(([u])=>u.slug===e).map(u=>n`<h3 key="own">Near-duplicates in this model</h3>
      <div class="counterparts" key="own tiles">${u.map(x=>n`<${ce} key=${x.partner} rows=${[x]} />`)}</div>`)}
    ${l.length>0&&n`<p class="note"><${v} name="Correlation" column="correlation" table="neuron_matches" /> of both activation maps over all places of all probe images;
      the tick is <${v} name="chance" column="threshold" table="neuron_matches" />: what 99 % of the model's neurons stay below when
      images are shuffled. What is not above it may be chance.</p>`}</section>`}function ce({rows:[e,...t]}){return n`<${ve} slug=${e.slug} layer=${e.layer} unit=${e.partner}>
    ${e.label!==null&&n`<span class="label-small">${e.label}</span>`}
    <${tt} row=${e} />
    ${t.length>0&&n`<span class="note next">next: ${t.map((a,s)=>n`${s>0&&", "}${be(a.slug,a.layer,a.partner)?n`<a href=${f.neuron(a.slug,a.layer,a.partner)}>${a.layer}/${a.partner}</a>`:`${a.layer}/${a.partner}`} ${$(a.correlation)}`)}</span>`}
  <//>`}function tt({row:e}){const t=e.threshold??e.null;return n`<span class="correlation"><span><b>${$(e.correlation)}</b> <span class="unit">chance ${$(t)}</span></span>
    <${A} value=${e.correlation} chance=${t} />
    ${e.mutual===1&&n`<span class="flag">mutual best</span>`}${e.significant===0&&n`<span class="unit">not above chance</span>`}</span>`}const m=e=>e!=null;function at({row:e,summary:t,layer:a}){const s=[{name:"start",value:e.activation_start,kind:"start"},{name:"this picture",value:e.activation,kind:"end"},m(e.natural_mean)?{name:"changed a little",value:e.natural_mean,kind:"fresh"}:{name:"recoloured, shifted",value:e.robust_mean,spread:e.robust_std,kind:"fresh",note:`${$(e.robust_mean)} \xB1 ${j(e.robust_std)}`},{name:"best real image",value:e.mean_max,kind:"real"},{name:`layer ${a}`,band:t.quantiles,kind:"layer",note:`median ${$(t.quantiles[2])}`}];return n`${m(e.verdict)&&n`<p class="verdict"><${v} name="verdict" column="verdict"><b>${X(e)}</b> ${rt(e)}<//></p>`}
    <p class="verdict">${ct(e)}</p>
    ${V(e)!==null&&n`<p class="verdict"><${v} name="percentile" column="percentile">${st(e)}<//></p>`}
    ${m(e.natural_kinds)&&e.natural_kinds.length>0&&n`<${it} kinds=${e.natural_kinds} />`}
    <figure><${_e} label="Activation on one scale" rows=${s} />
    <figcaption>Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${a} holds half, its thin
      part nine tenths of the activations that the ${k(t.described)} pictures of this layer reach.</figcaption></figure>
    <p class="rank">Rank <b>${k(e.rank)}</b> of ${k(t.described)} in its layer by activation.</p>
    ${m(e.rescue)&&n`<p class="rank">Rescued: the first attempt gave no gradient, then <b>${e.rescue}</b> moved it.</p>`}`}function st(e){const t=k(e.probe_images),a=o=>m(o)?n`<b>${$(o)}</b> times the best`:"no image fires the neuron",s=n`mean over patches ${a(e.ratio_to_best)}, strongest patch ${a(e.peak_ratio)}`;return{both:n`More than every one of ${t} real images: ${s}.`,mean:n`More than every one of ${t} real images by the mean over patches, not at the strongest patch: ${s}.`,peak:n`More than every one of ${t} real images at the strongest patch, not by the mean over patches: ${s}.`,neither:n`Less than the best of ${t} real images: ${s}. By the mean, more than <b>${$(e.percentile)} %</b> of them.`}[V(e)??"neither"]}const nt={shift:"shifted",turn:"turned, zoomed",colour:"recoloured",blur:"blurred",noise:"noisy"};function it({kinds:e}){return n`<p class="note">Kept when ${e.map(({kind:t,kept:a},s)=>n`${s>0&&" \xB7 "}${nt[t]??t} <b>${m(a)?y(Math.max(0,a)):"\u2013"}</b>`)}</p>`}const rt=e=>m(e.verdict_reason)?`${e.verdict_reason[0].toUpperCase()}${e.verdict_reason.slice(1)}.`:"";function ot({row:e}){if(!m(e.histogram))return null;const t=e.activation_peak??null,a=m(e.fires_on)?n`<${v} name="fires on" column="fires_on">Fires on <b>${y(e.fires_on)}</b> of images<//>`:"Fires on no image: no patch of any probe image is over 0.";return n`<div class="fires-on"><p class="verdict">${a}</p>
    <figure><${ge} histogram=${e.histogram} mark=${t} from=${m(e.fires_on)?e.peak_max/2:null} name="Images by their strongest patch" />
    <figcaption>Images by their strongest patch; heights are square roots of counts.${m(e.fires_on)&&" Blue: over half of the strongest."}
      ${t!==null&&n` The pin is the picture: <b>${$(t)}</b>${m(e.peak_ratio)&&n`, ${$(e.peak_ratio)} times the strongest image`}.`}</figcaption></figure></div>`}function ct(e){if(e.status==="inactive")return n`It reaches <b>${$(e.activation)}</b>, from ${$(e.activation_start)} at the start: this neuron did not fire.`;const t=!m(e.verdict)&&m(e.robust_mean)&&e.activation>0?e.robust_mean/e.activation:null;return n`It ${e.activation>e.activation_start?"drives":"brings"} the neuron to <b>${$(e.activation)}</b>, from ${$(e.activation_start)} at the start.${" "}
    ${t!==null&&n`Under ${e.robust_draws} fresh random shifts of place and colour ${t<=0?n`<b>nothing</b> of that remains.`:n`<b>${y(t)}</b> of that ${t<1?"remains":"is reached"}.`}`}`}function lt({row:e,summary:t}){return n`<dl class="figures">${e.status!==null&&n`<${ut} row=${e} summary=${t} />`}<${$t} row=${e} /></dl>`}function ut({row:e,summary:t}){const a=(s,i)=>m(s)&&i>0?`${y(s/i)} of the clean picture's`:"";return n`<${c} name="Activation" column="activation" value=${e.activation} unit="mean over patches"
        compare=${`median of the layer ${$(t.quantiles[2])}, start ${$(e.activation_start)}`} />
      <${c} name="Strongest patch" column="activation_peak" value=${e.activation_peak} unit="activation"
        compare=${`start ${$(e.activation_start_peak)}`} />
      ${m(e.verdict)&&n`<${c} name="Verdict" column="verdict" value=${e.verdict} compare=${e.verdict_reason} />
      <${c} name="Under natural changes" column="natural_mean" value=${e.natural_mean} unit="mean over patches" compare=${m(e.natural_kept)?`${y(e.natural_kept)} of the stored picture's`:""} />
      <${c} name="Strongest patch, changed" column="natural_peak" value=${e.natural_peak} unit="activation" compare=${m(e.natural_kept_peak)?`${y(e.natural_kept_peak)} of the stored picture's`:""} />`}
      <${c} name="Recoloured and shifted, as published" column="robust_mean" value=${e.robust_mean} unit=${`\xB1 ${j(e.robust_std)}, ${e.robust_draws} draws`}
        compare=${a(e.robust_mean,e.activation)} />
      <${c} name="Strongest patch, so" column="robust_peak" value=${e.robust_peak} unit="activation" compare=${a(e.robust_peak,e.activation_peak)} />
      <${c} name="Picture as stored" column="activation_stored" value=${e.activation_stored} unit="mean over patches" compare=${a(e.activation_stored,e.activation)} />
      <${c} name="Status" column="status" value=${e.status} compare=${`${k(t.active)} active, ${k(t.inactive)} inactive in this layer`} />
      <${c} name="Rescue" column="rescue" value=${e.rescue??"none"} compare=${m(e.rescue)?"":"a neuron with a flat gradient gets another start"} />
      <${c} name="Steps" column="steps" value=${e.steps} unit="steps" compare=${`${k(e.image_steps??0)} forward-backward passes of one image`} />
      <${c} name="Time" column="seconds" value=${e.seconds} unit="s" compare="share of its batch, on the machine of the run" />`}function $t({row:e}){if(!m(e.probe_images))return null;const t=`${k(e.probe_images)} images`;return n`<${c} name="Fires on" column="fires_on" value=${m(e.fires_on)?y(e.fires_on):null} unit="of images" compare=${`of ${t}`} />
    <${c} name="Active patches" column="fraction_active" value=${y(e.fraction_active)} unit="of patch tokens" compare=${`of ${t}`} />
    <${c} name="Best real image" column="mean_max" value=${e.mean_max} unit="mean over patches" compare=${m(e.activation)?`the picture ${$(e.activation)}`:""} />
    <${c} name="Strongest real patch" column="peak_max" value=${e.peak_max} unit="activation" compare=${m(e.activation_peak)?`the picture ${$(e.activation_peak)}`:""} />
    ${m(e.percentile)&&n`<${c} name="Percentile" column="percentile" value=${e.percentile} unit="% of images below the picture" compare=${m(e.ratio_to_best)?`${$(e.ratio_to_best)} times the best image`:""} />
    <${c} name="Ratio at the strongest patch" column="peak_ratio" value=${e.peak_ratio} unit="times the best image" />`}
    <${c} name="Over all patches" column="token_mean" value=${e.token_mean} unit=${`\xB1 ${j(e.token_std)}`} compare="mean and standard deviation" />
    <${c} name="Kurtosis" column="token_kurtosis" value=${e.token_kurtosis} compare="3 for a normal distribution" />
    <${c} name="Quantiles of the strongest patch" column="peak_quantiles" compare="at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 % of images"
      value=${e.peak_quantiles}>${(e.peak_quantiles??[]).map($).join(", ")}<//>`}function ht({slug:e,layer:t,unit:a}){const s=(_(e).heads?.reads.length??0)>0,{value:i,error:o,stale:l}=N(async()=>s?Ee(e,t,a):[],[e,t,a]);if(!s)return null;const h=l?[]:i??[],p=Math.max(...h.map(r=>r.share),1e-9);return n`<section aria-labelledby="readers"><h2 id="readers">Heads that read it</h2>
    ${o&&n`<${E} error=${o} />`}
    ${!l&&!o&&h.length===0&&n`<p class="note">No later attention head reads this neuron: what it adds goes on along the residual path alone.</p>`}
    ${h.length>0&&n`<ol class="ranked">${h.map(r=>n`<li key=${`${r.layer}/${r.head}`}>
        <a class="where" href=${f.head(e,r.layer,r.head)}>layer ${r.layer}, head ${r.head}</a>
        <span class="line"><${A} value=${r.share/p} /></span><b class="value">${L(r.share)}</b>
        <span class=${r.label===null?"said note":"said"}>${r.label===null?"unlabelled":`\u201C${r.label}\u201D`}${r.level!=="direct"&&n` <span class="note">· ${r.level}</span>`}</span></li>`)}</ol>
      <p class="note"><${v} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; bars are drawn against the first.</p>`}</section>`}const mt=(e,t)=>`<iframe src="${new URL(e,document.baseURI.split("#")[0]).href}" title="${t}" width="640" height="300" loading="lazy" style="border: 0"></iframe>`,dt={"{":"\\{","}":"\\}","%":"\\%","&":"\\&",_:"\\_","#":"\\#",$:"\\$"},H=e=>e.replace(/[{}%&_#$]/g,t=>dt[t]);function pt(e,t,a,s=new Date().getFullYear()){const i=t?`${e} (\`\`${t}'')`:e;return`@misc{${e.replace(/[^a-z0-9]+/g,"-")},
  title        = {${H(i)}},
  howpublished = {\\url{${location.href}}},
  year         = {${s}},
  note         = {${H(d.title)}, revision ${d.revision}, schema ${d.schema}; model ${H(a.model_id)}, weights SHA-256 ${a.fingerprint}}
}`}function le({address:e,label:t,model:a,row:s,embed:i}){return n`<${T} title="BibTeX" text=${pt(e,t,a)} />
    <${T} title="In a page of your own" text=${mt(i,e)} wrapped />
    <details><summary>This row as JSON</summary><${T} title=${e} text=${JSON.stringify({address:e,...s},null,1)} /></details>`}const ft=`@article{ghiasi2022vision,
  title   = {What do Vision Transformers Learn? A Visual Exploration},
  author  = {Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and Reich, Steven and Shu, Manli and
             Goldblum, Micah and Wilson, Andrew Gordon and Goldstein, Tom},
  journal = {arXiv preprint arXiv:2212.06727},
  year    = {2022}
}`;function vt(e,t){const a=d.dataset===""?"path/to/atlas":d.dataset;return`from datasets import load_dataset

atlas = ${JSON.stringify(a)}${d.dataset===""?"  # the folder of this atlas, or its hf:// address":""}
shard = f"{atlas}/${e}"
row = load_dataset("parquet", data_files=shard, split="train", filters=[("unit", "==", ${t})])[0]
row["image"], row["activation"], row["robust_mean"]`}function bt({slug:e,layer:t,unit:a,row:s,model:i}){const o=J(e,t,a),l=`${o}, ${d.title}, schema ${d.schema}. Model ${i.model.model_id}, weights SHA-256 ${i.model.fingerprint}. ${s.recipe?`Recipe ${s.recipe} (${s.recipe_hash}), seed ${s.seed}. `:""}${location.href}`;return n`<${T} title="This row in Python" text=${vt(s.layer_pictures,a)} />
    <${T} title="Cite this neuron" text=${l} wrapped />
    <${T} title="Cite the method" text=${ft} />
    <${le} address=${o} label=${s.label} model=${i.model} row=${s} embed=${f.embed(e,t,a)} />`}function gt({row:e,model:t,site:a}){const s=t.model;return n`<dl class="figures facts">
      <${c} name="Recipe" column="recipe" value=${e.recipe} compare=${n`settings <code>${e.recipe_hash}</code>`} />
      <${c} name="Seed" column="seed" value=${ke(e.seed)} compare="with recipe and address it gives all random numbers" />
      <${c} name="Precision" column="precision" value=${e.precision} />
      <${c} name="Start" column="start" value=${e.start} />
      <${c} name="Module" table="sites" column="path" value=${n`<code>${a.path}</code>`} compare=${`${a.activation_function}, depth ${a.depth?.toFixed(2)}`} />
      <${c} name="Weights" table="models" column="fingerprint" value=${n`<code class="hash">${s.fingerprint}</code>`} compare=${s.model_id} />
      <${c} name="Licence of the weights" table="models" column="licence" value=${s.licence} />
      <${c} name="Versions" table="models" column="stages" value=${xe(Se(s).find(({stage:i})=>i==="visualize")?.software)||null} compare="that drew the picture" />
    </dl>
    <div class="curves">
      <${Q} title="Activation, step by step" points=${e.loss_curve.map(([i,,o])=>[i,o])} />
      <${Q} title="Objective, step by step" points=${e.loss_curve.map(([i,o])=>[i,o])} />
    </div>
    ${s.recipe_json&&n`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${Te(s.recipe_json)}</code></pre></details>`}
    <details><summary>Runs that worked on this model</summary><${ye} runs=${t.runs} /></details>`}function _t({slug:e,layer:t,unit:a,row:s,model:i,trusted:o}){const l={slug:e,layer:t,unit:a},h=i.layers[t],p=_(e).stages.includes("examples");return n`${!o&&n`<${ue} row=${s} summary=${h} layer=${t} wide />`}
    <${kt} ...${l} row=${s} />
    ${!p&&n`<${Y} slug=${e} />`}
    <${Je} slug=${e} row=${s} />
    <${et} ...${l} />
    <${ht} ...${l} />
    ${p&&n`<${Y} slug=${e} />`}
    <${Ze} row=${s} />
    <${P} id="numbers" name="Numbers" hint="every figure of this neuron, with what it means"><${lt} row=${s} summary=${h} /><//>
    <${P} id="made" name="How it was made" hint="recipe, seed, weights, versions, runs"><${gt} row=${s} model=${i} site=${i.sites[t]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${bt} ...${l} row=${s} model=${i} /></section>`}function ue({row:e,summary:t,layer:a,wide:s=!1}){const i=e.status==="failed",o=e.status!==null&&!i,l=i?`No picture: ${e.status_reason}.`:"This neuron has no picture yet.";return n`<section class="trust" aria-labelledby=${o?"trust":null}>${o&&n`<h2 id="trust">How far to trust the picture</h2>`}
    <div class=${s?"columns-2":""}><div>${o?n`<${at} row=${e} summary=${t} layer=${a} />`:n`<p class="note">${l}</p>`}</div>
      <div><${ot} row=${e} /><${Ke} row=${e} /></div></div></section>`}const yt=()=>Promise.resolve().then(function(){return Nt});function kt({slug:e,layer:t,unit:a,row:s}){return _(e).layers[t]?.pictures!==void 0&&n`<${Me} load=${yt} name="PicturesSection" props=${{slug:e,layer:t,unit:a,row:s}} />`}var xt=Object.freeze({__proto__:null,NeuronBelow:_t,TrustSection:ue});const St={display:"grid",gridTemplateColumns:"repeat(auto-fill, minmax(104px, 1fr))",gap:"12px 8px",margin:"12px 0"},$e={display:"block",width:"100%",aspectRatio:"1",overflow:"hidden",background:"var(--sunk)"},Tt={marginTop:"4px",fontSize:"13px",lineHeight:"16px"};async function Mt(e,t,a){const{pictures:s,further:i}=_(e).layers[t]??{};if(s===void 0)return null;const o=`${s}/${b(a/i)}.images`;return(await B(o,async()=>D(await(await G(o)).arrayBuffer(),o))).filter(h=>h.unit===a)}function Ot({slug:e,layer:t,unit:a,row:s}){const{value:i,error:o,stale:l}=N(()=>Mt(e,t,a),[e,t,a]),h=N(async()=>s.recipe&&s.status!=="failed"?Oe(e,t,a).catch(()=>null):null,[e,t,a]);if(o)return n`<section><h2>In other ways</h2><${E} error=${o} /></section>`;const p=r=>i.filter(({recipe:u})=>u===r.recipe).length>1;return n`<section aria-labelledby="pictures" class="pictures" aria-busy=${l}><h2 id="pictures">In other ways</h2>
    <div style=${St}>
      ${s.recipe&&n`<${he} one=${{...s,url:h.stale?null:h.value}} name=${`${s.recipe}, above`} />`}
      ${(l?[]:i??[]).map(r=>n`<${he} key=${`${r.recipe} ${r.variant}`} one=${r}
        name=${p(r)?`${r.recipe} ${r.variant+1}`:r.recipe} />`)}</div>
    <p class="note">The same neuron by other recipes. The figure is what is left of the activation when the picture is changed a little,
      mean over patches and strongest patch. Recipes aim at different things: compare what they show, not their figures alone.</p></section>`}function he({one:e,name:t}){const a=[X(e),e.verdict_reason,e.start_image&&`Begun with ${e.start_image}.`,e.likeness!==void 0&&`Likeness to the nearest variant ${$(e.likeness)}.`];return n`<figure class="other" style=${{margin:0}}><div style=${$e} title=${a.filter(Boolean).join(" ")}>
      ${e.url?n`<img style=${$e} src=${e.url} alt=${`Picture by the recipe ${t}`} />`:n`<span class="note">${e.status_reason??""}</span>`}</div>
    <figcaption style=${Tt}><b>${t}</b><br />${e.verdict??e.status}<br />${$(e.natural_mean)} / ${$(e.natural_peak)}</figcaption></figure>`}var Nt=Object.freeze({__proto__:null,PicturesSection:Ot});export{P as F,le as T,I as a,qe as b,re as c,We as d,ze as e,te as f,Be as g,R as h,Fe as i,ae as j,Ue as k,Pe as l,xt as m,Z as n,ie as p,Ge as s,De as t};
