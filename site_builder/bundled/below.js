import{w as W,s as p,f as S,j as pe,a as fe,l as f,p as O,n as be,t as U,b as v,r as C,c as _,T as j,d as L,e as D,g as n,G as ve,u as T,h as ge,F as R,k as _e,i as $,o as E,m as G,q as K,E as b,v as l,x as A,y as X,B as I,z as J,A as ye,N as ke,C as xe,D as y,H as Se,I as Te,J as V,K as Q,L as k,S as M,M as Y,R as Me,O as Oe,P as je,Q as Ne,U as Ce,V as Z,W as Le,X as Re}from"./main.js";const Ae=8;async function w(e){const t=W(e);return t.length===0||!p.search?.near?[]:Ie(await S(p.search.near),t)}function Ie({labels:e,near:t},a){const s=o=>{const c=W(o);return a.every(h=>c.some(u=>u.startsWith(h)))},i=new Map;for(const[o,c]of Object.entries(t))if(s(o))for(const[h,u]of c)s(e[h])||i.set(e[h],Math.max(u,i.get(e[h])??0));return[...i].sort((o,c)=>c[1]-o[1]||(o[0]<c[0]?-1:1)).slice(0,Ae)}const[Pe,ee,ze,Be]=[3,5,3,2],te={columns:8};async function Ee(e,t){const a=pe(e,t).filter(({problem:r})=>r==="").slice(0,Pe),[s,i,o]=await Promise.all([p.search,p.head_search,p.cluster_search].map(r=>fe(e,r))),c=[...a.map(({title:r,note:m,href:x})=>({title:r,note:m,href:x})),...s.slice(0,ee).map(r=>({title:r.text,note:O(r.neurons,"neuron"),href:f.search({q:r.text}),face:Fe(r.number)})),...i.slice(0,ze).map(r=>({title:r.text,note:O(r.neurons,"head"),href:f.search({q:r.text})})),...o.slice(0,Be).map(r=>({title:r.text,note:O(r.neurons,"Rosetta cluster"),href:f.search({q:r.text})}))];if(c.length>0)return c;const h=await w(e).catch(()=>[]);if(h.length>0)return h.slice(0,ee).map(([r])=>({title:r,note:"near in meaning",href:f.search({q:r})}));const u=await be(e);return u===""?[]:[{title:u,note:"did you mean this?",href:f.search({q:u})}]}function Fe(e){const{faces:t,pack:a,texts:s}=p.search,i=Math.floor(e/a),o=Math.min(a,s-i*a);return U(`${t}/${v(i)}.webp`,e%a,te.columns,Math.ceil(o/te.columns))}var qe=Object.freeze({__proto__:null,suggest:Ee});const He=e=>[N(e.variance_share)?`${L(e.variance_share)} of the feature's variance`:"",N(e.selectivity)?`selectivity ${L(e.selectivity)}`:"",...Ge(e)].filter(t=>t!==""),N=e=>e!=null;function P(e){const{heads:t,model_id:a}=_(e);if(t!==null)return t;throw new j(`This atlas has not decomposed the heads of ${e} (${a}).`)}async function ae(e){const t=await S(`${P(e).folder}/heads.json.gz`);return{rows:C(t),scores:t.scores}}async function We(e,t,a){const{folder:s,layers:i,images:o}=P(e);if(!i[t])throw new j(`${e} has ${i.length} attention layers, 0 to ${i.length-1}; there is no layer ${t}.`);if(a>=i[t])throw new j(`Attention layer ${t} of ${e} has ${i[t]} heads, 0 to ${i[t]-1}; there is no head ${a}.`);const[c,h]=await Promise.all([ae(e),S(`${s}/${v(t)}.json.gz`)]),u=o?`${s}/images/${v(t)}-${v(a)}.images`:void 0,r=m=>C(h[m],a);return{row:c.rows.find(m=>m.layer===t&&m.unit===a),all:c.rows,texts:r("texts"),features:r("features"),examples:r("examples").map(m=>({...m,bundle:u})),neurons:r("neurons")}}async function Ue(e,t,a){const{folder:s,reads:i}=P(e);if(Math.floor(a/p.read_pack)>=(i[t]??0))return[];const o=await S(`${s}/reads/${v(t)}-${v(a/p.read_pack)}.json.gz`);return C(o,a)}function se(e){const t=(p.features?.list??[]).findIndex(a=>a.name===e);if(p.features&&t>=0)return{number:t,entry:p.features.list[t]};throw new j(p.features?`This atlas has no feature \u201C${e}\u201D.`:"This atlas has scored no features.")}async function De(e){const{number:t}=se(e),{sets:a}=await S(`${p.features?.folder}/${v(t)}.json.gz`);return a.map(s=>({...s,rows:C(s)}))}const Ge=({ablation_effect:e,ablation_margin:t,ablation_flips:a})=>[[N(t)&&`margin ${D(t)} \u03C3`,N(e)&&`accuracy ${D(100*e)} points`].filter(Boolean).join(", ").replace(/^(?=.)/,"ablation: "),`flips ${L(a)} of images`];function ne({shown:e,said:t=s=>n`<b>${$(s.activation)}</b>`,more:a=s=>`mean over patches ${$(s.mean)}`}){const[s,i]=ve(!1),{value:o,error:c,stale:h}=T(async()=>s?Promise.all(e.map(ge)):[],[s,e.map(u=>u.image).join()]);return n`<details onToggle=${u=>i(u.target.open)}><summary>About these images</summary>
    ${c&&n`<${R} error=${c} />`}
    <ol class="sources">${(h?[]:o??[]).map((u,r)=>n`<li key=${e[r].image}>${t(e[r])}
      <span>${_e(e[r].probe)?n`<a href=${f.probe(e[r].probe,e[r].image)}>${u.image}</a>`:u.image}${u.class&&` \xB7 ${u.class}`}${u.caption&&` \xB7 \u201C${u.caption}\u201D`}
      <span class="note"> ${a(e[r])} · licence ${u.licence??"not stated"}${u.source&&n` · <${F} source=${u.source} />`}</span></span></li>`)}</ol></details>`}const F=({source:e})=>/^https?:\/\//.test(e)?n`<a href=${e} rel="noreferrer">${e}</a>`:e;var Ke=Object.freeze({__proto__:null,Source:F,Sources:ne});const z=({id:e,name:t,hint:a,children:s})=>n`<section aria-labelledby=${e}><details class="fold">
  <summary><h2 id=${e}>${t}</h2> <span class="note">${a}</span></summary>${s}</details></section>`,[B,ie,re]=[64,8,8];function q(e){const t=_(e).inversions;if(!t)throw new j(`This atlas has no inversions of ${e}.`);return t}const Xe=({recipe:e,variant:t})=>({by:e,...t?{v:String(t)}:{}});function oe(e,t,a={}){const[s,...i]=t.split("/");return s==="head"?f.headpicture(e,...i,a):f.inversion(e,s,...i,a)}function ce(e){const{folder:t}=q(e);return E(`inversions ${t}`,async()=>{const a=Object.entries(await S(`${t}/index.json.gz`));return a[0][1].map((s,i)=>({at:i,...Object.fromEntries(a.map(([o,c])=>[o,c[i]]))}))})}const Je=e=>{const t=new Set;return e.filter(({id:a,recipe:s})=>!t.has(`${a} ${s}`)&&t.add(`${a} ${s}`))};async function Ve(e,t){const a=`${q(e).folder}/${v(t/re)}.images`;return(await E(a,async()=>G(await(await K(a)).arrayBuffer(),a)))[t%re]}function Qe(e,t,a){const s=Math.floor(t/B),i=Math.ceil(Math.min(B,a-s*B)/ie);return U(`${q(e).folder}/${v(s)}.webp`,t%B,ie,i)}function Ye(e,t){const a=s=>s.toLowerCase().normalize("NFKD").replace(/\p{M}/gu,"");return a(t).split(/\s+/).filter(Boolean).every(s=>a(e).includes(s))}const g=e=>e!=null;function Ze({row:e}){const t=(e.writes_to??[]).filter(a=>a.logit>0).slice(0,3);return t.length===0?null:n`<p class="writes"><${b} name="Writes to" column="writes_to" />: ${t.map((a,s)=>n`${s>0&&", "}${a.name} <b>${X(a.logit)}</b>`)}
    <span class="unit"> logit a unit of activation</span></p>`}function we({slug:e,row:t}){const a=g(t.writes_to)||g(t.effect_note)||g(t.ablation_effect);return!a&&!g(t.exciting_classes)?null:n`<section aria-labelledby="classes"><h2 id="classes">Classes and effect</h2>
    <div class="columns-2">
      ${g(t.exciting_classes)&&n`<div><h3><${b} name="Images that excite it" column="exciting_classes" /></h3><${tt} classes=${t.exciting_classes} /></div>`}
      ${g(t.writes_to)&&n`<div><h3><${b} name="Classes it writes to" column="writes_to" /></h3><${at} slug=${e} classes=${t.writes_to} /></div>`}
      ${g(t.effect_note)&&n`<div><h3>Classes it writes to</h3><p class="note">Not shown: ${t.effect_note}.</p></div>`}
    </div>
    ${a&&n`<dl class="figures"><${l} name="Effect of ablation" column="ablation_effect" value=${t.ablation_effect}
      unit=${`\xB1 ${A(t.ablation_se)} logit`} compare=${`${t.ablation_kind}, ${O(t.ablation_images??0,"image")}; ${et(t)}`} /></dl>`}
  </section>`}const et=({ablation_effect:e,ablation_se:t})=>!g(e)||!g(t)?"":Math.abs(e)<2*t?"not told from 0":e>0?"the correct class loses without this neuron":"the correct class gains without this neuron";function tt({classes:e}){const t=Math.max(...e.map(a=>a.mean),1e-9);return n`<table class="bars"><caption>Mean over the images of each class; bars are drawn against the largest.</caption><tbody>${e.map(a=>n`<tr key=${a.name}><th scope="row">${a.name}</th>
    <td class="line"><${I} value=${a.mean/t} /></td><td>${$(a.mean)}</td><td class="note">${O(a.images,"image")}</td></tr>`)}</tbody></table>`}function at({slug:e,classes:t}){const a=st(e),s=Math.max(...t.map(i=>Math.abs(i.logit)),1e-9);return n`<table class="bars"><caption>Change of the class's logit by a unit of activation; what it lowers is grey, bars are drawn against the largest.</caption><tbody>${t.map(i=>n`<tr key=${i.name} class=${i.logit<0?"lowered":""}><th scope="row">${a[i.name]?n`<a href=${a[i.name]}>${i.name}</a>`:i.name}</th>
    <td class="line"><${I} value=${Math.abs(i.logit)/s} /></td><td>${X(i.logit)}</td></tr>`)}</tbody></table>`}function st(e){const{value:t}=T(async()=>_(e).inversions?ce(e).catch(()=>[]):[],[e]);return Object.fromEntries((t??[]).filter(({kind:a})=>a==="class").map(({id:a,target:s})=>[s,oe(e,a)]))}const le=e=>e!=null;function nt({row:e}){if(!le(e.label_status))return null;const t=e.label_candidates??[];return n`<${z} id="label" name="Label" hint="the texts that were tried, and how readable the neuron is">
    ${t.length>0&&n`<div class="scroll" tabindex="0" role="group" aria-label="Texts that were tried"><table class="candidates"><thead><tr><th scope="col">text</th>
      <th scope="col"><${b} name="score" column="label_score" /></th><th scope="col"><${b} name="z" column="label_z" /></th>
      <th scope="col"><${b} name="held-out AUROC" column="label_auroc" /></th></tr></thead>
      <tbody>${t.map(a=>n`<tr key=${a.text} class=${a.text===e.label?"chosen":""}><th scope="row">${a.text}</th>
        <td>${$(a.score)}</td><td>${$(a.z)}</td><td>${$(a.auroc)}</td></tr>`)}</tbody></table></div>`}
    <dl class="figures">
      <${l} name="Clarity" column="clarity" value=${e.clarity} compare="0 as random crops, 1 all alike" />
      <${l} name="Polysemanticity" column="polysemanticity" value=${e.polysemanticity} compare="0 one meaning" />
      <${l} name="Redundancy" column="redundancy" value=${e.redundancy} compare=${le(e.twin)&&n`twin: <${it} address=${e.twin} />`} />
      <${l} name="Texts compared with" column="label_view" value=${e.label_view==="crop"?"crops":"whole images"} compare=${e.label_view==="crop"?"around the strongest patch":""} />
      <${l} name="List of texts" column="concept_set" value=${n`<code class="hash">${e.concept_set}</code>`} />
      <${l} name="Compared by" column="embedder" value=${n`<code class="hash">${e.embedder}</code>`} />
    </dl><//>`}function it({address:e}){const[t,,a,s]=e.split("/");return n`<a href=${f.neuron(t,Number(a),Number(s))}>${J(t,Number(a),Number(s))}</a>`}function rt({slug:e,layer:t,unit:a}){const{value:s,error:i,stale:o}=T(()=>ye(e,t,a),[e,t,a]);if(_(e).layers[t].matches===void 0)return null;if(i)return n`<section><h2>Same in other models</h2><${R} error=${i} /></section>`;const c=o?[]:s??[],h=[...new Set(c.map(m=>m.slug))],u=c.find(m=>m.cluster!==null)?.cluster??null,r=h.map(m=>c.filter(x=>x.slug===m));return n`<section aria-labelledby="matches"><h2 id="matches">Same in other models</h2>
    ${u!==null&&n`<p class="cluster-line">Part of <a href=${f.cluster(u)}>Rosetta cluster ${u}</a>: neurons of
      three or more models, every two of them each other's best counterpart.</p>`}
    <div class="counterparts">${r.filter(([m])=>m.slug!==e).map(m=>n`<${ue} key=${m[0].slug} rows=${m} />`)}</div>
    ${r.every(([m])=>m.slug===e)&&!o&&n`<p class="note">${p.models.length===1?"This atlas holds no other model.":"No other model of this atlas was measured on the same images."}</p>`}
    ${r.filter(([m])=>m.slug===e).map(m=>n`<h3 key="own">Near-duplicates in this model</h3>
      <div class="counterparts" key="own tiles">${m.map(x=>n`<${ue} key=${x.partner} rows=${[x]} />`)}</div>`)}
    ${c.length>0&&n`<p class="note"><${b} name="Correlation" column="correlation" table="neuron_matches" /> of both activation maps over all places of all probe images;
      the tick is <${b} name="chance" column="threshold" table="neuron_matches" />: what 99 % of the model's neurons stay below when
      images are shuffled. What is not above it may be chance.</p>`}</section>`}function ue({rows:[e,...t]}){return n`<${ke} slug=${e.slug} layer=${e.layer} unit=${e.partner}>
    ${e.label!==null&&n`<span class="label-small">${e.label}</span>`}
    <${ot} row=${e} />
    ${t.length>0&&n`<span class="note next">next: ${t.map((a,s)=>n`${s>0&&", "}${xe(a.slug,a.layer,a.partner)?n`<a href=${f.neuron(a.slug,a.layer,a.partner)}>${a.layer}/${a.partner}</a>`:`${a.layer}/${a.partner}`} ${$(a.correlation)}`)}</span>`}
  <//>`}function ot({row:e}){const t=e.threshold??e.null;return n`<span class="correlation"><span><b>${$(e.correlation)}</b> <span class="unit">chance ${$(t)}</span></span>
    <${I} value=${e.correlation} chance=${t} />
    ${e.mutual===1&&n`<span class="flag">mutual best</span>`}${e.significant===0&&n`<span class="unit">not above chance</span>`}</span>`}const d=e=>e!=null;function ct({row:e,summary:t,layer:a}){const s=[{name:"start",value:e.activation_start,kind:"start"},{name:"this picture",value:e.activation,kind:"end"},d(e.natural_mean)?{name:"changed a little",value:e.natural_mean,kind:"fresh"}:{name:"recoloured, shifted",value:e.robust_mean,spread:e.robust_std,kind:"fresh",note:`${$(e.robust_mean)} \xB1 ${A(e.robust_std)}`},{name:"best real image",value:e.mean_max,kind:"real"},{name:`layer ${a}`,band:t.quantiles,kind:"layer",note:`median ${$(t.quantiles[2])}`}];return n`${d(e.verdict)&&n`<p class="verdict"><${b} name="verdict" column="verdict"><b>${V(e)}</b> ${ht(e)}<//></p>`}
    <p class="verdict">${dt(e)}</p>
    ${Q(e)!==null&&n`<p class="verdict"><${b} name="percentile" column="percentile">${lt(e)}<//></p>`}
    ${d(e.natural_kinds)&&e.natural_kinds.length>0&&n`<${$t} kinds=${e.natural_kinds} />`}
    <figure><${Te} label="Activation on one scale" rows=${s} />
    <figcaption>Activation, mean over patch tokens, on one scale; the line is 0. The bar of layer ${a} holds half, its thin
      part nine tenths of the activations that the ${k(t.described)} pictures of this layer reach.</figcaption></figure>
    <p class="rank">Rank <b>${k(e.rank)}</b> of ${k(t.described)} in its layer by activation.</p>
    ${d(e.rescue)&&n`<p class="rank">The first attempt reached too little; this picture was found with <b>${e.rescue}</b>.</p>`}`}function lt(e){const t=k(e.probe_images),a=o=>d(o)?n`<b>${$(o)}</b> times the best`:"no image fires the neuron",s=n`mean over patches ${a(e.ratio_to_best)}, strongest patch ${a(e.peak_ratio)}`;return{both:n`More than every one of ${t} real images: ${s}.`,mean:n`More than every one of ${t} real images by the mean over patches, not at the strongest patch: ${s}.`,peak:n`More than every one of ${t} real images at the strongest patch, not by the mean over patches: ${s}.`,neither:n`Less than the best of ${t} real images: ${s}. By the mean, more than <b>${$(e.percentile)} %</b> of them.`}[Q(e)??"neither"]}const ut={shift:"shifted",turn:"turned, zoomed",colour:"recoloured",blur:"blurred",noise:"noisy"};function $t({kinds:e}){return n`<p class="note">Kept when ${e.map(({kind:t,kept:a},s)=>n`${s>0&&" \xB7 "}${ut[t]??t} <b>${d(a)?y(Math.max(0,a)):"\u2013"}</b>`)}</p>`}const ht=e=>d(e.verdict_reason)?`${e.verdict_reason[0].toUpperCase()}${e.verdict_reason.slice(1)}.`:"";function mt({row:e}){if(!d(e.histogram))return null;const t=e.activation_peak??null,a=d(e.fires_on)?n`<${b} name="fires on" column="fires_on">Fires on <b>${y(e.fires_on)}</b> of images<//>`:"Fires on no image: no patch of any probe image is over 0.";return n`<div class="fires-on"><p class="verdict">${a}</p>
    <figure><${Se} histogram=${e.histogram} mark=${t} from=${d(e.fires_on)?e.peak_max/2:null} name="Images by their strongest patch" />
    <figcaption>Images by their strongest patch; heights are square roots of counts.${d(e.fires_on)&&" Blue: over half of the strongest."}
      ${t!==null&&n` The pin is the picture: <b>${$(t)}</b>${d(e.peak_ratio)&&n`, ${$(e.peak_ratio)} times the strongest image`}.`}</figcaption></figure></div>`}function dt(e){if(e.status==="inactive")return n`It reaches <b>${$(e.activation)}</b>, from ${$(e.activation_start)} at the start: this neuron did not fire.`;const t=!d(e.verdict)&&d(e.robust_mean)&&e.activation>0?e.robust_mean/e.activation:null;return n`It ${e.activation>e.activation_start?"drives":"brings"} the neuron to <b>${$(e.activation)}</b>, from ${$(e.activation_start)} at the start.${" "}
    ${t!==null&&n`Under ${e.robust_draws} fresh random shifts of place and colour ${t<=0?n`<b>nothing</b> of that remains.`:n`<b>${y(t)}</b> of that ${t<1?"remains":"is reached"}.`}`}`}function pt({row:e,summary:t}){return n`<dl class="figures">${e.status!==null&&n`<${ft} row=${e} summary=${t} />`}<${bt} row=${e} /></dl>`}function ft({row:e,summary:t}){const a=(s,i)=>d(s)&&i>0?`${y(s/i)} of the clean picture's`:"";return n`<${l} name="Activation" column="activation" value=${e.activation} unit="mean over patches"
        compare=${`median of the layer ${$(t.quantiles[2])}, start ${$(e.activation_start)}`} />
      <${l} name="Strongest patch" column="activation_peak" value=${e.activation_peak} unit="activation"
        compare=${`start ${$(e.activation_start_peak)}`} />
      ${d(e.verdict)&&n`<${l} name="Verdict" column="verdict" value=${e.verdict} compare=${e.verdict_reason} />
      <${l} name="Under natural changes" column="natural_mean" value=${e.natural_mean} unit="mean over patches" compare=${d(e.natural_kept)?`${y(e.natural_kept)} of the stored picture's`:""} />
      <${l} name="Strongest patch, changed" column="natural_peak" value=${e.natural_peak} unit="activation" compare=${d(e.natural_kept_peak)?`${y(e.natural_kept_peak)} of the stored picture's`:""} />`}
      <${l} name="Recoloured and shifted, as published" column="robust_mean" value=${e.robust_mean} unit=${`\xB1 ${A(e.robust_std)}, ${e.robust_draws} draws`}
        compare=${a(e.robust_mean,e.activation)} />
      <${l} name="Strongest patch, so" column="robust_peak" value=${e.robust_peak} unit="activation" compare=${a(e.robust_peak,e.activation_peak)} />
      <${l} name="Picture as stored" column="activation_stored" value=${e.activation_stored} unit="mean over patches" compare=${a(e.activation_stored,e.activation)} />
      <${l} name="Status" column="status" value=${e.status} compare=${`${k(t.active)} active, ${k(t.inactive)} inactive in this layer`} />
      <${l} name="Rescue" column="rescue" value=${e.rescue??"none"} compare=${d(e.rescue)?"":"a neuron gets another start where the first reaches less than a generated picture, or nothing"} />
      <${l} name="Steps" column="steps" value=${e.steps} unit="steps" compare=${`${k(e.image_steps??0)} forward-backward passes of one image`} />
      <${l} name="Time" column="seconds" value=${e.seconds} unit="s" compare="share of its batch, on the machine of the run" />`}function bt({row:e}){if(!d(e.probe_images))return null;const t=`${k(e.probe_images)} images`;return n`<${l} name="Fires on" column="fires_on" value=${d(e.fires_on)?y(e.fires_on):null} unit="of images" compare=${`of ${t}`} />
    <${l} name="Active patches" column="fraction_active" value=${y(e.fraction_active)} unit="of patch tokens" compare=${`of ${t}`} />
    <${l} name="Best real image" column="mean_max" value=${e.mean_max} unit="mean over patches" compare=${d(e.activation)?`the picture ${$(e.activation)}`:""} />
    <${l} name="Strongest real patch" column="peak_max" value=${e.peak_max} unit="activation" compare=${d(e.activation_peak)?`the picture ${$(e.activation_peak)}`:""} />
    ${d(e.percentile)&&n`<${l} name="Percentile" column="percentile" value=${e.percentile} unit="% of images below the picture" compare=${d(e.ratio_to_best)?`${$(e.ratio_to_best)} times the best image`:""} />
    <${l} name="Ratio at the strongest patch" column="peak_ratio" value=${e.peak_ratio} unit="times the best image" />`}
    <${l} name="Over all patches" column="token_mean" value=${e.token_mean} unit=${`\xB1 ${A(e.token_std)}`} compare="mean and standard deviation" />
    <${l} name="Kurtosis" column="token_kurtosis" value=${e.token_kurtosis} compare="3 for a normal distribution" />
    <${l} name="Quantiles of the strongest patch" column="peak_quantiles" compare="at 1, 5, 25, 50, 75, 90, 95, 99 and 99.9 % of images"
      value=${e.peak_quantiles}>${(e.peak_quantiles??[]).map($).join(", ")}<//>`}function vt({slug:e,layer:t,unit:a}){const s=(_(e).heads?.reads.length??0)>0,{value:i,error:o,stale:c}=T(async()=>s?Ue(e,t,a):[],[e,t,a]);if(!s)return null;const h=c?[]:i??[],u=Math.max(...h.map(r=>r.share),1e-9);return n`<section aria-labelledby="readers"><h2 id="readers">Heads that read it</h2>
    ${o&&n`<${R} error=${o} />`}
    ${!c&&!o&&h.length===0&&n`<p class="note">No later attention head reads this neuron: what it adds goes on along the residual path alone.</p>`}
    ${h.length>0&&n`<ol class="ranked">${h.map(r=>n`<li key=${`${r.layer}/${r.head}`}>
        <a class="where" href=${f.head(e,r.layer,r.head)}>layer ${r.layer}, head ${r.head}</a>
        <span class="line"><${I} value=${r.share/u} /></span><b class="value">${L(r.share)}</b>
        <span class=${r.label===null?"said note":"said"}>${r.label===null?"unlabelled":`\u201C${r.label}\u201D`}${r.level!=="direct"&&n` <span class="note">· ${r.level}</span>`}</span></li>`)}</ol>
      <p class="note"><${b} name="Share" column="share" table="head_reads">What the neuron passes through the head's values, against all that the head adds along its first axis<//>; bars are drawn against the first.</p>`}</section>`}const gt=(e,t)=>`<iframe src="${new URL(e,document.baseURI.split("#")[0]).href}" title="${t}" width="640" height="300" loading="lazy" style="border: 0"></iframe>`,_t={"{":"\\{","}":"\\}","%":"\\%","&":"\\&",_:"\\_","#":"\\#",$:"\\$"},H=e=>e.replace(/[{}%&_#$]/g,t=>_t[t]);function yt(e,t,a,s=new Date().getFullYear()){const i=t?`${e} (\`\`${t}'')`:e;return`@misc{${e.replace(/[^a-z0-9]+/g,"-")},
  title        = {${H(i)}},
  howpublished = {\\url{${location.href}}},
  year         = {${s}},
  note         = {${H(p.title)}, revision ${p.revision}, schema ${p.schema}; model ${H(a.model_id)}, weights SHA-256 ${a.fingerprint}}
}`}function $e({address:e,label:t,model:a,row:s,embed:i}){return n`<${M} title="BibTeX" text=${yt(e,t,a)} />
    <${M} title="In a page of your own" text=${gt(i,e)} wrapped />
    <details><summary>This row as JSON</summary><${M} title=${e} text=${JSON.stringify({address:e,...s},null,1)} /></details>`}const kt=`@article{ghiasi2022vision,
  title   = {What do Vision Transformers Learn? A Visual Exploration},
  author  = {Ghiasi, Amin and Kazemi, Hamid and Borgnia, Eitan and Reich, Steven and Shu, Manli and
             Goldblum, Micah and Wilson, Andrew Gordon and Goldstein, Tom},
  journal = {arXiv preprint arXiv:2212.06727},
  year    = {2022}
}`;function xt(e,t){const a=p.dataset===""?"path/to/atlas":p.dataset;return`from datasets import load_dataset

atlas = ${JSON.stringify(a)}${p.dataset===""?"  # the folder of this atlas, or its hf:// address":""}
shard = f"{atlas}/${e}"
row = load_dataset("parquet", data_files=shard, split="train", filters=[("unit", "==", ${t})])[0]
row["image"], row["activation"], row["robust_mean"]`}function St({slug:e,layer:t,unit:a,row:s,model:i}){const o=J(e,t,a),c=`${o}, ${p.title}, schema ${p.schema}. Model ${i.model.model_id}, weights SHA-256 ${i.model.fingerprint}. ${s.recipe?`Recipe ${s.recipe} (${s.recipe_hash}), seed ${s.seed}. `:""}${location.href}`;return n`<${M} title="This row in Python" text=${xt(s.layer_pictures,a)} />
    <${M} title="Cite this neuron" text=${c} wrapped />
    <${M} title="Cite the method" text=${kt} />
    <${$e} address=${o} label=${s.label} model=${i.model} row=${s} embed=${f.embed(e,t,a)} />`}function Tt({row:e,model:t,site:a}){const s=t.model;return n`<dl class="figures facts">
      <${l} name="Recipe" column="recipe" value=${e.recipe} compare=${n`settings <code>${e.recipe_hash}</code>`} />
      <${l} name="Seed" column="seed" value=${Oe(e.seed)} compare="with recipe and address it gives all random numbers" />
      <${l} name="Precision" column="precision" value=${e.precision} />
      <${l} name="Start" column="start" value=${e.start} />
      <${l} name="Module" table="sites" column="path" value=${n`<code>${a.path}</code>`} compare=${`${a.activation_function}, depth ${a.depth?.toFixed(2)}`} />
      <${l} name="Weights" table="models" column="fingerprint" value=${n`<code class="hash">${s.fingerprint}</code>`} compare=${s.model_id} />
      <${l} name="Licence of the weights" table="models" column="licence" value=${s.licence} />
      <${l} name="Versions" table="models" column="stages" value=${je(Ne(s).find(({stage:i})=>i==="visualize")?.software)||null} compare="that drew the picture" />
    </dl>
    <div class="curves">
      <${Y} title="Activation, step by step" points=${e.loss_curve.map(([i,,o])=>[i,o])} />
      <${Y} title="Objective, step by step" points=${e.loss_curve.map(([i,o])=>[i,o])} />
    </div>
    ${s.recipe_json&&n`<details><summary>All settings of the recipe</summary><pre tabindex="0"><code>${Ce(s.recipe_json)}</code></pre></details>`}
    <details><summary>Runs that worked on this model</summary><${Me} runs=${t.runs} /></details>`}function Mt({slug:e,layer:t,unit:a,row:s,model:i,trusted:o}){const c={slug:e,layer:t,unit:a},h=i.layers[t],u=_(e).stages.includes("examples");return n`${!o&&n`<${he} row=${s} summary=${h} layer=${t} wide />`}
    <${jt} ...${c} row=${s} />
    ${!u&&n`<${Z} slug=${e} />`}
    <${we} slug=${e} row=${s} />
    <${rt} ...${c} />
    <${vt} ...${c} />
    ${u&&n`<${Z} slug=${e} />`}
    <${nt} row=${s} />
    <${z} id="numbers" name="Numbers" hint="every figure of this neuron, with what it means"><${pt} row=${s} summary=${h} /><//>
    <${z} id="made" name="How it was made" hint="recipe, seed, weights, versions, runs"><${Tt} row=${s} model=${i} site=${i.sites[t]} /><//>
    <section aria-labelledby="use"><h2 id="use">Use this</h2><${St} ...${c} row=${s} model=${i} /></section>`}function he({row:e,summary:t,layer:a,wide:s=!1}){const i=e.status==="failed",o=e.status!==null&&!i,c=i?`No picture: ${e.status_reason}.`:"This neuron has no picture yet.";return n`<section class="trust" aria-labelledby=${o?"trust":null}>${o&&n`<h2 id="trust">How far to trust the picture</h2>`}
    <div class=${s?"columns-2":""}><div>${o?n`<${ct} row=${e} summary=${t} layer=${a} />`:n`<p class="note">${c}</p>`}</div>
      <div><${mt} row=${e} /><${Ze} row=${e} /></div></div></section>`}const Ot=()=>Promise.resolve().then(function(){return It});function jt({slug:e,layer:t,unit:a,row:s}){return _(e).layers[t]?.pictures!==void 0&&n`<${Le} load=${Ot} name="PicturesSection" props=${{slug:e,layer:t,unit:a,row:s}} />`}var Nt=Object.freeze({__proto__:null,NeuronBelow:Mt,TrustSection:he});const Ct={display:"grid",gridTemplateColumns:"repeat(auto-fill, minmax(104px, 1fr))",gap:"12px 8px",margin:"12px 0"},me={display:"block",width:"100%",aspectRatio:"1",overflow:"hidden",background:"var(--sunk)"},Lt={marginTop:"4px",fontSize:"13px",lineHeight:"16px"};async function Rt(e,t,a){const{pictures:s,further:i}=_(e).layers[t]??{};if(s===void 0)return null;const o=`${s}/${v(a/i)}.images`;return(await E(o,async()=>G(await(await K(o)).arrayBuffer(),o))).filter(h=>h.unit===a)}function At({slug:e,layer:t,unit:a,row:s}){const{value:i,error:o,stale:c}=T(()=>Rt(e,t,a),[e,t,a]),h=T(async()=>s.recipe&&s.status!=="failed"?Re(e,t,a).catch(()=>null):null,[e,t,a]);if(o)return n`<section><h2>In other ways</h2><${R} error=${o} /></section>`;const u=r=>i.filter(({recipe:m})=>m===r.recipe).length>1;return n`<section aria-labelledby="pictures" class="pictures" aria-busy=${c}><h2 id="pictures">In other ways</h2>
    <div style=${Ct}>
      ${s.recipe&&n`<${de} one=${{...s,url:h.stale?null:h.value}} name=${`${s.recipe}, above`} />`}
      ${(c?[]:i??[]).map(r=>n`<${de} key=${`${r.recipe} ${r.variant}`} one=${r}
        name=${u(r)?`${r.recipe} ${r.variant+1}`:r.recipe} />`)}</div>
    <p class="note">The same neuron by other recipes. The figure is what is left of the activation when the picture is changed a little,
      mean over patches and strongest patch. Recipes aim at different things: compare what they show, not their figures alone.</p></section>`}function de({one:e,name:t}){const a=[V(e),e.verdict_reason,e.start_image&&`Begun with ${e.start_image}.`,e.likeness!==void 0&&`Likeness to the nearest variant ${$(e.likeness)}.`];return n`<figure class="other" style=${{margin:0}}><div style=${me} title=${a.filter(Boolean).join(" ")}>
      ${e.url?n`<img style=${me} src=${e.url} alt=${`Picture by the recipe ${t}`} />`:n`<span class="note">${e.status_reason??""}</span>`}</div>
    <figcaption style=${Lt}><b>${t}</b><br />${e.verdict??e.status}<br />${$(e.natural_mean)} / ${$(e.natural_peak)}</figcaption></figure>`}var It=Object.freeze({__proto__:null,PicturesSection:At});export{z as F,ne as S,$e as T,P as a,Xe as b,ce as c,Je as d,He as e,ae as f,We as g,N as h,De as i,se as j,Ve as k,F as l,qe as m,w as n,Ke as o,oe as p,Nt as q,Ye as s,Qe as t};
